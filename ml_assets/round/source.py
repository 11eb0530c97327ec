"""A source that is no file: rows that a loader, a database or an upstream asset gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ml_assets.errors import DatasetError
from ml_assets.later import later
from ml_assets.resources.table import merged
from ml_assets.rows import plain, plain_table

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
else:
    pd = later("pandas")
    pa = later("pyarrow")


def frames(given: Any, name: str) -> Iterator[pa.Table]:
    """It gives the rows of a DataFrame or an Arrow table with plain types.

    Raises:
        DatasetError: it is neither, or has no rows.
    """
    if hasattr(given, "to_pandas") and not isinstance(given, pa.Table):
        given = given.to_pandas()
    if isinstance(given, pd.DataFrame):
        given = pa.Table.from_pandas(
            plain(given.reset_index(drop=True), name), preserve_index=False
        )
    if not isinstance(given, pa.Table) or not given.num_rows:
        raise DatasetError(f"{name} gave no table with rows, but {type(given).__name__}.")
    yield plain_table(given, name)


def queried(query: str, url: str, name: str) -> Iterator[pa.Table]:
    """It gives the rows that a database answers to a query.

    Raises:
        DatasetError: it cannot be asked, or answers with no rows.
    """
    import sqlalchemy

    try:
        engine = sqlalchemy.create_engine(url)
        with engine.connect().execution_options(stream_results=True) as connection:
            asked = pd.read_sql_query(sqlalchemy.text(query), connection, chunksize=1 << 16)
            pieces = [piece for frame in asked if len(frame) for piece in frames(frame, name)]
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        cause = getattr(error, "orig", None) or type(error).__name__
        raise DatasetError(f"{name} failed: {str(cause)[:300]}") from None
    if not pieces:
        raise DatasetError(f"{name} gave no rows.")
    yield pa.concat_tables(pieces, promote_options="permissive").cast(
        merged([p.schema for p in pieces])
    )
