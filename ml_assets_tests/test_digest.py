import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.digest import digest_of, file_digest, tree_digest
from ml_assets_tests.conftest import problem


def test_the_digest_of_parts_is_stable_across_processes():
    """A literal, because a change of it would make every key in every lake unknown."""
    assert digest_of("split", "1", {"b": 2, "a": [1, None]}) == "9761d2573c2dc39d"


def test_the_order_of_keys_does_not_matter_and_the_order_of_parts_does():
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    assert digest_of("a", "b") != digest_of("b", "a")


def test_parts_do_not_run_into_each_other():
    assert digest_of("ab", "c") != digest_of("a", "bc")
    assert digest_of(["a"], "b") != digest_of("a", ["b"])


def test_equal_declarations_have_one_digest_and_a_changed_one_another():
    assert digest_of(problem()) == digest_of(problem())
    assert digest_of(problem()) != digest_of(problem(seed=1))


def test_what_has_no_plain_content_cannot_be_named():
    with pytest.raises(TypeError, match="cannot name a object by content"):
        digest_of(object())


def test_the_digest_of_a_file_is_sha256_of_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def tree(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


FILES = {"a": b"1", "sub/b": b"2"}


@pytest.mark.parametrize(
    "changed",
    [
        {"a": b"x", "sub/b": b"2"},
        {"c": b"1", "sub/b": b"2"},
        {"a": b"1", "b": b"2"},
        {"a": b"1"},
        {"a": b"1", "sub/b": b"2", "c": b""},
        {"a": b"2", "sub/b": b"1"},
    ],
    ids=["content", "name", "place", "removed", "added", "swapped"],
)
def test_any_change_in_a_folder_changes_its_digest(tmp_path, changed):
    before = tree_digest(tree(tmp_path / "before", FILES))
    assert tree_digest(tree(tmp_path / "after", changed)) != before


def test_where_a_folder_stands_is_no_part_of_its_digest(tmp_path):
    one, other = tree(tmp_path / "one", FILES), tree(tmp_path / "deep" / "other", FILES)
    assert tree_digest(one) == tree_digest(other)


def test_a_link_in_a_folder_is_an_error(tmp_path):
    """A link could show other bytes to the one who loads than to the one who verified."""
    folder = tree(tmp_path / "here", FILES)
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="link is a link"):
        tree_digest(folder)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(max_size=4), max_size=4), st.lists(st.text(max_size=4), max_size=4))
def test_digests_are_equal_if_and_only_if_the_parts_are(one, other):
    assert (digest_of(*one) == digest_of(*other)) == (one == other)
