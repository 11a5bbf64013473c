"""Files of the user's own, and what is said of those that are none."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from gradgene.cells.user_files import read_names, read_table
from gradgene.errors import CellsError, ConfigError, PairError


def test_names(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("g2\n\n  g1 \ng2\n")
    assert read_names(str(file), "a.key") == ("g2", "g1", "g2")


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "no such gene list"), (b" \n", "names no gene"), (b"\xff\xfe\x00", "cannot read")],
)
def test_what_is_no_list_of_names(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "names.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CellsError, match=rf"a\.key: {said}.*names\.txt|a\.key: .*{said}"):
        read_names(str(file), "a.key")
    with pytest.raises(ConfigError, match=said):
        read_names(str(file), "a.key", error=ConfigError)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_as_text_or_as_it_is(tmp_path: Path, suffix: str) -> None:
    file, frame = tmp_path / f"mine{suffix}", pd.DataFrame({"a": ["007"], "b": ["x"]})
    if suffix == ".csv":
        frame.to_csv(file, index=False)
        assert read_table(file, "a.key", ("a",), error=PairError)["a"].tolist() == [7]
    else:
        frame.to_parquet(file)
    pd.testing.assert_frame_equal(
        read_table(file, "a.key", ("a", "b"), error=PairError, text=True), frame
    )
    with pytest.raises(PairError, match=r"mine.*: lacks the column 'c'.*found 'a', 'b'"):
        read_table(file, "a.key", ("a", "c"), error=PairError)
