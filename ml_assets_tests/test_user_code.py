import sys

import pytest

from ml_assets.errors import DeclarationError
from ml_assets.user_code import code_digest, locate, source_digest


def write(folder, text, name="model.py"):
    (folder / name).write_text(text)
    return folder


def test_an_import_path_gives_the_installed_object():
    from sklearn.linear_model import Ridge

    assert locate("sklearn.linear_model.Ridge", None) is Ridge


def test_a_relative_path_gives_the_object_beside_the_declaration(tmp_path):
    write(tmp_path, "def ours():\n    return 41 + 1\n")
    assert locate(".model.ours", tmp_path)() == 42


def test_two_problems_with_a_model_py_each_do_not_mix(tmp_path):
    for name, value in [("one", 1), ("other", 2)]:
        (tmp_path / name).mkdir()
        write(tmp_path / name, f"value = {value}\n")
    assert [locate(".model.value", tmp_path / n) for n in ("one", "other", "one")] == [1, 2, 1]


def test_a_changed_file_is_read_anew(tmp_path):
    write(tmp_path, "value = 1\n")
    assert locate(".model.value", tmp_path) == 1
    write(tmp_path, "value = 1000 + 1\n")  # another length: bytecode caches look at time and size
    assert locate(".model.value", tmp_path) == 1001


def test_a_misspelt_name_is_answered_with_the_one_that_was_meant(tmp_path):
    write(tmp_path, "def boosted_trees():\n    pass\n")
    with pytest.raises(DeclarationError, match=r"no `bosted_trees`.* Did you mean `boosted_trees`"):
        locate(".model.bosted_trees", tmp_path)
    with pytest.raises(DeclarationError, match="Did you mean `Ridge`"):
        locate("sklearn.linear_model.Rigde", None)


def test_a_package_that_is_not_installed_is_named():
    with pytest.raises(DeclarationError, match=r"`no_such_package\.Thing` cannot be imported.*In"):
        locate("no_such_package.Thing", None)


def test_a_relative_path_without_a_file_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(DeclarationError) as refused:
        locate(".model.ours", tmp_path)
    assert "no model.py beside defs.yaml" in str(refused.value)
    assert str(tmp_path) in str(refused.value)


def test_a_relative_path_without_a_folder_is_refused():
    with pytest.raises(DeclarationError, match="in no folder"):
        locate(".model.ours", None)


def test_code_that_cannot_be_imported_says_what_it_said_and_leaves_nothing_behind(tmp_path):
    write(tmp_path, "raise RuntimeError('not today')\n")
    before = set(sys.modules)
    with pytest.raises(DeclarationError, match=r"model\.py cannot be imported: RuntimeError: not"):
        locate(".model.ours", tmp_path)
    assert set(sys.modules) == before


def test_the_digest_of_code_follows_its_file(tmp_path):
    write(tmp_path, "value = 1\n")
    first = source_digest(".model.value", tmp_path)
    assert first == source_digest(".model.other", tmp_path) != ""
    write(tmp_path, "value = 2\n")
    assert source_digest(".model.value", tmp_path) != first


def test_installed_code_and_absent_files_have_no_digest(tmp_path):
    assert source_digest("sklearn.linear_model.Ridge", tmp_path) == ""
    assert source_digest(".model.value", tmp_path) == ""
    assert source_digest(".model.value", None) == ""


def test_the_digest_of_installed_code_follows_its_file_and_imports_nothing(tmp_path, monkeypatch):
    """Seen to fail: a candidate by its import path was not fitted again when its code was changed."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "team_models").mkdir()
    for file in ("__init__.py", "trees.py"):
        (tmp_path / "team_models" / file).write_text("raise RuntimeError('it was imported')\n")
    (tmp_path / "alone.py").write_text("raise RuntimeError('it was imported')\n")
    paths = ("team_models.trees.deep", "team_models.make", "alone.make")
    before = [code_digest(path, None) for path in paths]
    assert all(before)
    assert before[0] == before[1]  # the same bytes
    for file in ("team_models/trees.py", "team_models/__init__.py", "alone.py"):
        (tmp_path / file).write_text(f"# {file}\nraise RuntimeError('it was imported')\n")
    assert not set(before) & {code_digest(path, None) for path in paths}
    for path in ("sklearn.linear_model.Ridge", "no_such_package.model", "random_forest", "auto"):
        assert code_digest(path, None) == ""


def test_the_digest_of_code_beside_the_declaration_is_that_of_its_source(tmp_path):
    write(tmp_path, "value = 1\n")
    assert code_digest(".model.value", tmp_path) == source_digest(".model.value", tmp_path) != ""
