"""Assets that the project had before: visits, and what they say of each customer."""

import dagster as dg
import numpy as np
import pandas as pd


@dg.asset(key=["warehouse", "visits"], group_name="warehouse", kinds={"pandas"})
def visits() -> pd.DataFrame:
    """One row for each visit of a customer to the shop; made up here, a source anywhere else."""
    random = np.random.default_rng(7)
    customers = random.integers(0, 500, size=6000)
    return pd.DataFrame(
        {
            "customer": customers,
            "spent": random.gamma(2.0, 15.0 + customers % 40, size=6000).round(2),
        }
    )


@dg.asset(key=["warehouse", "customers"], group_name="warehouse", kinds={"pandas"})
def customers(visits: pd.DataFrame) -> pd.DataFrame:
    """One row for each customer: how often, how much, and whether they came back next year."""
    random = np.random.default_rng(8)
    seen = visits.groupby("customer")["spent"].agg(["count", "mean", "max"]).reset_index()
    leaning = 0.08 * (seen["mean"] - seen["mean"].median()) + 0.2 * (seen["count"] - 12)
    back = random.random(len(seen)) < 1 / (1 + np.exp(-leaning))
    return seen.assign(came_back=np.where(back, "yes", "no"))
