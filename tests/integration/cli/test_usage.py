"""mcpchat usage and threads show --timeline, on what ask saved."""

import csv
import io
import json
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine, unpack
from tests.support.fake_openai import FakeOpenAI, text, tool_call


@pytest.fixture
def run(fake_openai: FakeOpenAI, tmp_path: Path) -> CommandLine:
    run = CommandLine(tmp_path, fake_openai, base_config="[servers.calculator]\nbuiltin = 'calculator'\n")
    fake_openai.replies = [tool_call("calculator__calculate", '{"expression": "6*7"}'), text("42."), text("Hello.")]
    assert unpack(run("ask", "What is 6*7?"))[0] == 0
    assert unpack(run("ask", "Hi", "--title", "Größe"))[0] == 0
    return run


def report(run: CommandLine, *args: str) -> dict[str, object]:
    code, out, err = unpack(run("usage", "-o", "json", *args))
    assert code == 0, err
    value: dict[str, object] = json.loads(out)
    return value


def test_usage_by_everything(run: CommandLine) -> None:
    by_day = report(run)
    assert (by_day["v"], by_day["by"], len(by_day["rows"])) == (1, "day", 1)
    assert by_day["total"]["requests"] == 3
    assert by_day["total"]["input"] > 0
    assert [row["key"] for row in report(run, "--by", "model")["rows"]] == ["m"]
    (server,) = report(run, "--by", "server")["rows"]
    assert (server["key"], server["calls"]) == ("calculator", 1)
    assert server["input"] > 0
    assert {row["label"]: row["requests"] for row in report(run, "--by", "thread")["rows"]} == {
        "What is 6*7?": 2, "Größe": 1
    }  # fmt: skip
    assert len(report(run, "--by", "thread", "-n", "1")["rows"]) == 1
    assert report(run, "--since", "2099-01-01")["rows"] == []
    assert report(run, "--until", "2000-01-01", "--since", "all")["rows"] == []
    _, out, _ = unpack(run("usage", "--by", "thread"))
    assert "Größe" in out
    assert out.splitlines()[-1].split()[:2] == ["all", "3"]
    _, out, _ = unpack(run("usage", "--by", "model", "-o", "csv"))
    (row,) = csv.DictReader(io.StringIO(out))
    assert (row["model"], row["requests"]) == ("m", "3")
    assert unpack(run("usage", "--since", "2099-01-01")) == (0, "", "no requests\n")


def test_costs_that_were_not_looked_up_are_by_todays_prices(run: CommandLine) -> None:
    assert report(run)["total"]["unpriced"] == 3  # the model is on this machine now, and may not have been then
    run("usage", config='[model.m]\nbase_url = "https://api.example.com/v1"\nprice = { input = 1.0, output = 2.0 }\n')
    total = report(run)["total"]
    assert total["cost"] == pytest.approx((total["input"] + 2 * total["output"]) / 1e6)
    run("usage", config='[model.m]\nbase_url = "https://api.example.com/v1"\n')
    assert report(run)["total"]["unpriced"] == 3
    assert "cost unknown" in unpack(run("usage"))[1]


def test_forks_and_imported_threads_do_not_count(run: CommandLine, tmp_path: Path) -> None:
    total = report(run)["total"]
    thread = json.loads(unpack(run("threads", "-o", "json"))[1])[-1]["id"]
    assert unpack(run("threads", "fork", thread))[0] == 0
    assert report(run)["total"] == total
    exported = tmp_path / "t.json"
    exported.write_text(unpack(run("threads", "export", thread, "-o", "json"))[1])
    assert unpack(run("threads", "delete", thread, "--yes"))[0] == 0
    assert unpack(run("threads", "import", str(exported)))[0] == 0
    assert report(run)["total"]["requests"] == total["requests"]  # those of the fork


def test_the_page_with_charts(run: CommandLine, tmp_path: Path) -> None:
    page = tmp_path / "usage.html"
    assert unpack(run("usage", "--html", str(page))) == (0, "", f"{page}: 3 requests\n")
    content = page.read_text()
    assert content.startswith("<!doctype html>")
    assert "Tokens per day" in content
    assert "Größe" in content


def test_mistakes_are_explained(run: CommandLine, tmp_path: Path) -> None:
    for args, message in (
        (("--by", "colour"), "--by"),
        (("--since", "soon"), "not a date or an age"),
        (("--html", str(tmp_path / "no" / "x.html")), "x.html"),
    ):
        code, _, err = unpack(run("usage", *args))
        assert (code, message in err) == (2, True), err


def test_a_timeline_of_a_thread(run: CommandLine) -> None:
    thread = json.loads(unpack(run("threads", "-o", "json"))[1])[-1]["id"]
    code, out, _ = unpack(run("threads", "show", thread, "--timeline"))
    assert code == 0
    assert out.splitlines()[0] == "   1  What is 6*7?"
    assert [line.split()[0] for line in out.splitlines()[2:5]] == ["m", "calculator.calculate", "m"]
    for args in (("--timeline", "--tree"), ("--timeline", "-o", "json")):
        assert unpack(run("threads", "show", thread, *args))[0] == 2
    html = unpack(run("threads", "export", thread, "-o", "html"))[1]
    assert "Timeline" in html
