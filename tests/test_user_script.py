"""The script whose types are checked does what it says."""

import pytest
import user_script


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_script_of_a_user_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    user_script.main(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {"clf.model", "lm.model", "reliability.png"}
    assert "REFUND" in capsys.readouterr().out
