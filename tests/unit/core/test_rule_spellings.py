"""A rule holds for every spelling of a value: what allows holds for all of it, what restricts is found in any form."""

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpchat.core.patterns import parse_pattern


def allows(rule: str, **arguments: Any) -> bool:
    return parse_pattern(f"m.send({rule})").matches("m.send", arguments, match_all=True)


def restricts(rule: str, **arguments: Any) -> bool:
    return parse_pattern(f"m.send({rule})").matches("m.send", arguments, match_all=False)


# --- rules that allow -------------------------------------------------------------------------------------------------

THIEF, FRIEND = "thief@evil.org", "ann@example.com"


@pytest.mark.parametrize(
    "to",
    [
        f"{THIEF}, {FRIEND}", f"{THIEF},{FRIEND}", f"{THIEF};{FRIEND}", f"{THIEF}\n{FRIEND}", f"{THIEF} {FRIEND}",
        f"<{THIEF}> {FRIEND}", f"Ann <{THIEF}>, {FRIEND}", f"\"{THIEF}\" {FRIEND}", f"{THIEF}|{FRIEND}",
        [THIEF, FRIEND], [FRIEND, f"{THIEF}, {FRIEND}"], [[f"{THIEF} {FRIEND}"]], {"address": f"{THIEF}, {FRIEND}"},
        f"{THIEF}%2C{FRIEND}", f"{THIEF}%252C{FRIEND}", f"{THIEF}\uff0c{FRIEND}", f"{THIEF}\u2028{FRIEND}",
        "ann@evil.org%40example.com", "thief, ann@example.com", "",
        f"mailto:{THIEF}?cc={FRIEND}", *(f"{THIEF}{joiner}{FRIEND}" for joiner in "\u3001\u060c/:?#=!*+"),
    ],
)  # fmt: skip
def test_a_rule_about_recipients_lets_no_stranger_in(to: Any) -> None:
    assert not allows("to=*@example.com", to=to)
    for pattern in (r".*@example\.com", r"[^\s]+@example\.com", r".{1,90}@example\.com", r"[^ ]*@example\.com"):
        assert not allows(f"to~={pattern}", to=to)


@pytest.mark.parametrize("to", [FRIEND, f"{FRIEND}, bob@example.com", [FRIEND, "bob@example.com"], f" {FRIEND}"])
def test_a_rule_about_recipients_allows_all_whom_it_means(to: Any) -> None:
    assert allows("to=*@example.com", to=to)


JOINERS = st.sampled_from(
    [", ", ",", ";", "; ", " ", "\n", "\r\n", "\t", "> ", " <", "|", "\u2029", "\uff1b", "%2c", "%3B", "&&"]
)
ADDRESSES = st.from_regex(r"[a-z0-9.+-]{1,12}@[a-z0-9-]{1,12}\.(org|net|example\.com\.evil)", fullmatch=True)


@given(st.lists(ADDRESSES, min_size=1, max_size=3), JOINERS, st.booleans())
def test_strangers_are_found_at_any_place_between_any_separators(strangers: list[str], joiner: str, last: bool) -> None:
    text = joiner.join([*strangers, FRIEND] if last else [FRIEND, *strangers, FRIEND])
    assert not allows("to=*@example.com", to=text)


@pytest.mark.parametrize("other", [THIEF, f"Thief <{THIEF}>", [THIEF], {"x": [THIEF]}, f"{FRIEND}, {THIEF}"])
def test_addresses_in_other_arguments_must_match_too(other: Any) -> None:
    assert not allows("to=*@example.com", to=FRIEND, bcc=other)
    assert not allows("message.to=*@example.com", message={"to": FRIEND, "bcc": other})
    assert allows("to=*@example.com, bcc=*@evil.org, bcc=*", to=FRIEND, bcc=THIEF)


@pytest.mark.parametrize(
    "bcc",
    ["Evil, Bob <x@evil.org>", '"Evil, Bob" <x@evil.org>', "x@evil.org z@evil.org", "Bob x@evil.org", "x@evil.org|z@evil.org",
     "x@evil.org, root", "x@evil.org (c)", "undisclosed: x@evil.org;", "x%40evil.org", "x\uff20evil.org", "x @evil.org",
     '[{"email": "x@evil.org"}]', {"x@evil.org": {}}, {"user": "x@evil.org"}, [{"account": "x@evil.org"}],
     {"sender": "x@evil.org"}, "x@(c)evil.org", "x(ann@example.com)@evil.org",
     "x@((((c))))evil.org", r"x@(\))evil.org", "x@(c)evil.org (", '"x"@evil.org', '"x y" @evil.org', "x@[6.6.6.6]", "x@ [6.6.6.6]"],
)  # fmt: skip
def test_a_copy_to_a_stranger_is_found_in_any_notation(bcc: Any) -> None:
    assert not allows("to=*@example.com", to=FRIEND, bcc=bcc)


@pytest.mark.parametrize(
    "other",
    [
        {"bcc_user": "a b x@evil.org"}, {"notify_user": "a b x@evil.org"}, {"share_with_user": "x@evil.org"},
        {"bccRecipients": "a@evil.org b@evil.org"}, {"copy": "x%40evil.org"}, {"copy": "x\uff20evil.org"},
        {"copy": "x@evil.org (Thief)"}, {"copy": "Thief, Big <x@evil.org>"}, {"ccList": ["Thief (x@evil.org)"]},
        {"list": {"to_user": "x@evil.org"}}, {"bcclist": "a b c x@evil.org"},
        *({"subject": f"hi{line}Bcc{colon}x@evil.org"} for line in ("\r", "\n", "\r\n ", "%0a", "\u2028") for colon in
          (":", " : ", ":\n ", ": ann@example.com,\r\n\t")),
    ],
)  # fmt: skip
def test_a_copy_under_any_name_is_found(other: dict[str, Any]) -> None:
    assert not allows("to=*@example.com", to=FRIEND, **other)


@pytest.mark.parametrize("other", [{"headers": "X: y\nBcc: x@evil.org"}, {"subject": "hi\r\nbcc: x@evil.org"}])
def test_a_copy_in_a_header_is_found(other: dict[str, Any]) -> None:
    assert not allows("to=*@example.com", to=FRIEND, **other)


def test_other_arguments_may_have_other_texts() -> None:
    assert allows("to=*@example.com", to=FRIEND, reply_to="me@other.org", **{"from": "me@other.org"})
    assert allows(
        "to=*@example.com", to=FRIEND, from_email="me@other.org", user="me@other.org", mail_from="me@other.org"
    )
    assert allows("to=*@example.com", to=FRIEND, bcc="bob@example.com", body=f"Write to {THIEF}, please.", count=3)
    assert allows("path=/tmp/*", path="/tmp/a", author=THIEF)  # no rule about addresses


def test_only_allows_no_argument_that_no_condition_names() -> None:
    rule = "to=*@example.com, subject=*, only"
    assert allows(rule, to=FRIEND, subject="Report: a, b; c")
    assert allows(rule, to=FRIEND)
    assert allows(rule, to=FRIEND, subject="x", body="", cc=[], bcc=None)
    for extra in ({"body": "x"}, {"urgent": False}, {"options": {"copy": [THIEF]}}):
        assert not allows(rule, to=FRIEND, subject="x", **extra)
    assert not allows(rule, subject="x")
    assert not allows(rule, to=FRIEND, **{"subject.extra": "x"})
    assert not allows(rule, to=FRIEND, x={"/etc": {}})
    assert str(parse_pattern(f"m.send({rule})")) == f"m.send({rule})"
    assert parse_pattern("m.send(only)").matches("m.send", {}, match_all=True)
    assert not allows("only", a=1)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        *(("x=sudo *", text) for text in ('"sudo" rm', "'sudo' rm", "env sudo rm", "a=1 b= sudo rm", "su\\do rm", "env a=1 /usr/bin/sudo rm",
            "if true; then sudo rm; fi", "! sudo rm", "sh -c 'sudo rm'", '/bin/bash -e -c "sudo rm"', "for a in b; do sudo rm; done")),
        *(
            ("x=http://evil.org/*", text)
            for text in (
                "url=http://evil.org/x", "http://a@evil.org/x", "http://evil.org:80/x", "http://evil.org./x", "http:/evil.org/x",
                "http:\\\\evil.org/x", "view-source:http://evil.org/x", "ht\ttp://evil.org/x", "HTTP://EVIL.org/x", "get 'http://evil.org/x'",
                "http://evil.org", "http://evil.org?x", "http://evil.org:80#x", "http:evil.org/x",
            )
        ),
        ("x=y@bücher.example", "y@XN--BCHER-KVA.example"),
        *(("x=*@evil.org", text) for text in ("x@(c)evil.org", "x(c)@evil.org", "x@evil(c).org", "Ann <x@(a(b(c)))evil.org>",
            "x@((((c))))evil.org", r"x@(\))evil.org", r"x@(\()evil.org", '"x y"@evil.org', "x@(c)evil.org (")),
        *(("x=/etc/*", text) for text in ("jar:file:/etc/x", "jar:file:///etc/x!/a", "a:b:c:/etc/x", "f=jar:file:/etc/x", "/proc/self/root/etc/x", "file:///proc/1/task/2/root/etc/x")),
    ],
)  # fmt: skip
def test_a_restricting_rule_finds_quoted_and_prefixed_commands_and_urls(rule: str, text: str) -> None:
    assert restricts(rule, x=text)


def test_only_does_not_weaken_a_restricting_rule() -> None:
    assert restricts("to=*@evil.org, only", to=THIEF, body="x")


@pytest.mark.parametrize(
    ("rule", "arguments", "allowed"),
    [
        ("command=git *", {"command": "git log --oneline"}, True),
        ("command=git *", {"command": "git commit -m 'a, b'"}, True),
        *(
            ("command=git *", {"command": f"git log{cut}rm -rf /"}, False)
            for cut in ("; ", " && ", " | ", "\n", " & ", "`", "$(")
        ),
        ("command=git *", {"command": "git status&rm -rf x"}, False),
        ("command=git *", {"command": "git status \uff06rm x"}, False),
        ("command=git status*", {"command": "git status > .bashrc"}, False),
        ("command~=git (status|diff).*", {"command": "git status <(rm -rf x)"}, False),
        ("path=/tmp/*", {"path": "/tmp/..;/tmp/x"}, False),
        *(("path=/tmp/*", {"path": f"/tmp/..{end}"}, False) for end in (" ", "\n", "\0", "%00", "%20", ",/tmp/x")),
        ("path=/tmp/*", {"path": "/tmp/..a/b"}, True),
        ("url=https://example.com/pub/*", {"url": "https://example.com/pub/..?x"}, False),
        ("url=https://example.com/pub/*", {"url": "https://example.com/pub/.%2e#x"}, False),
        *(
            ("url=https://example.com/pub/*", {"url": f"https://example.com/pub/a{cut}https://evil.org/"}, False)
            for cut in (";", "|", "; ", ",", "%3B")
        ),
        ("url=https://example.com/pub/*", {"url": "https://example.com/pub/a;v=1/b|c?d=e;f"}, True),
        ("body=*", {"body": "a" * 200_000}, True),
        ("command~=git (status|log)( .*)?", {"command": "git log -p, -q"}, True),
        ("command~=git (status|log)( .*)?", {"command": "git log; rm x"}, False),
        ("path=/tmp/*", {"path": "/tmp/my file.txt"}, True),
        ("path=/tmp/*", {"path": "/tmp/a,/etc/passwd"}, False),
        ("path=/tmp/*", {"path": "/tmp/a /etc/passwd"}, False),
        ("path=/tmp/*", {"path": "/tmp/%2e%2e/etc/passwd"}, False),
        ("path=/tmp/*", {"path": "/tmp/%252e./etc/passwd"}, False),
        ("path=/tmp/*", {"path": "/tmp/\uff0e\uff0e/etc/passwd"}, False),
        ("path=/tmp/*", {"path": "/tmp/.\u200b./etc/passwd"}, False),
        ("path=/tmp/..", {"path": "/tmp/.."}, False),
        ("path=/tmp/*", {"path": "/tmp/a", "Path": "/etc/shadow"}, False),
        ("path=/tmp/*", {"path": "/tmp/a", "pa\u200bth": "/etc/shadow"}, False),
        ("path=/tmp/*", {"Path": "/tmp/a"}, False),
        ("path=/tmp/*", {"path": "/tmp/a", "path ": "/etc/shadow"}, False),
        ("url=https://api.example.com/*", {"url": "https://api.example.com/x?ids=1,2&a=b"}, True),
        ("url=https://api.example.com/*", {"url": "https://api.example.com/x,https://evil.org/"}, False),
        ("url=https://api.example.com/*", {"url": "https://api.example.com/%2e%2e/admin"}, False),
        ("subject=Report*", {"subject": "Report for May"}, True),
        ("subject=Report*", {"subject": f"Report {THIEF}"}, False),
        ("subject=Report*", {"subject": "Report, final"}, False),
        ("subject=*", {"subject": "any; text, at all"}, True),
        ("to=ann@example.com, bob@example.com", {"to": "ann@example.com, bob@example.com"}, True),
        ("to=Ann <*@example.com>", {"to": "Ann <ann@example.com>"}, True),
        ("to=Ann <*@example.com>", {"to": f"Ann <{THIEF}> <x@example.com>"}, False),
        ("to=* <*@example.com>", {"to": f"{THIEF} <x@example.com>"}, False),
        ("to=* <*@example.com>", {"to": "Ann Miller <x@example.com>"}, True),
        (r"to~=.* <.*@example\.com>", {"to": f"{THIEF} <x@example.com>"}, False),
    ],
)
def test_an_allowing_rule_holds_for_each_piece(rule: str, arguments: dict[str, Any], allowed: bool) -> None:
    assert allows(rule, **arguments) == allowed


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        *(
            ("x=git *", f"git log{rest}")
            for rest in (
                " \\<& rm x", " &>1 rm x", " =(rm x)", " (rm x)", " *(e:'rm x':)", ">=x", ">1x", "\\\n>x", " 2>&1;rm x", " 2>&1 & rm x",
            )
        ),
        *(
            ("x=git*", f"git://a{rest}")
            for rest in (";rm${IFS}x", "`reboot`", "|rm", "&rm", "$(reboot)", ">x")
        ),
        *(
            ("x=https://api.example.com/*", f"https://api.example.com/{rest}")
            for rest in ("a&https://evil.org/x", "a&//evil.org/x", "$(reboot)", "${IFS}", "`reboot`", "$'a'", "a\nb")
        ),
        *(
            ("x=cat /tmp/*", f"cat /tmp/{rest}")
            for rest in (
                ".\\./etc/passwd", "$x../etc/passwd", "${x}../etc/passwd", ".''./etc/passwd", '"."./etc', ".{.,}/etc/passwd",
                "{.,}./etc/passwd", ".*/etc/passwd", ".?/etc/passwd", ".[.]/etc", "$'\\x2e\\x2e'/etc", "${x:-..}/etc", "@(..)/etc",
                "a ..", "a .", "a $HOME", "a ${HOME}", "a $(x)", "a *", "a ~root", "a .?", "a .env/x",
            )
        ),
        *(("x~=cat /tmp/.*", f"cat /tmp/a {rest}") for rest in ("/etc/passwd", "~root", "$HOME", "/tmp/b /etc/x", "x/y")),
        ("x~=rm (-rf )?/tmp/.*", "rm -rf /tmp/a b/c"),
    ],
)  # fmt: skip
def test_an_allowing_rule_lets_nothing_else_run_or_be_reached(rule: str, value: str) -> None:
    assert not allows(rule, x=value)


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("x=git *", "git log 2>&1"), ("x=git *", "git diff HEAD~2..HEAD -- src/a.py"), ("x=git *", "git log $HOME *.py"),
        ("x=git *", "git diff HEAD^..HEAD"), ("x=cat /tmp/*", "cat /tmp/a /tmp/b"), ("x=cat /tmp/*", "cat /tmp/..a/b"),
        ("x=/home/me/*", "/home/me/my report (1).pdf"), ("x=/home/me/*", "/home/me/app/[id]/page.tsx"), ("x=Report*", "Report (May)"),
        ("x=/my files/*", "/my files/a (1).pdf"), ("x=SELECT *", "SELECT * FROM t WHERE a <> 'x'"),
        ("x=SELECT *", "SELECT count(*) FROM t WHERE a > 5"), ("x=SELECT *", "SELECT * FROM t WHERE a >= 5.5"),
        ("x=https://api.example.com/*", "https://api.example.com/a;v=1?b=c&d=e|f"), ("x=*.example.com/*", "https://a.example.com/?b&c"),
        ("x~=git (status|diff)( .*)?", "git diff src/main.py"), ("x~=git (status|diff)( .*)?", "git diff src/a.py src/b.py"),
        ("x~=git \\w+ .*", "git log /tmp/a"), ("x~=cat /tmp/\\w+ /var/\\w+", "cat /tmp/a /var/b"),
        ("x=Report*", "Report: does it work?"), ("x=Report*", "Report... to be continued"),
        ("to=*@example.com", "ann@EXAMPLE.com"), ("to=*@example.com", "ann@example.com, "), ("to=*@example.com", "a@example.com,b@example.com;"),
    ],
)  # fmt: skip
def test_an_allowing_rule_asks_about_nothing_that_it_means(rule: str, value: str) -> None:
    assert allows(rule, **{rule.partition("=")[0].rstrip("~"): value})


@pytest.mark.parametrize(
    "other",
    [
        {"reply_to": "me@x.org\r\nBcc: x@evil.org"}, {"from": "Me <me@x.org>\nbcc: x@evil.org"}, {"to.bcc": "x@evil.org"},
        {"in_reply_to": "a\nTo: x@evil.org"}, {"user_bcc_email": "x@evil.org"}, {"x.to.cc": ["x@evil.org"]}, {"email": "x@evil.org"},
    ],
)  # fmt: skip
def test_a_copy_beside_a_sender_or_within_a_name_is_found(other: dict[str, Any]) -> None:
    assert not allows("to=*@example.com", to=FRIEND, **other)


@pytest.mark.parametrize(
    "other",
    [
        {"in_reply_to": "<CAF+x@mail.other.org>"}, {"references": ["<a@x.org>", "<b@y.org>"]}, {"message_id": "<a@x.org>"},
        {"user_google_email": "me@other.org"}, {"account_email": "me@other.org"}, {"package": "@types/node@20.1"},
        {"package": "node@20.1.0-beta.1"}, {"attachments": ["/home/me/a@b.pdf", "~/x/me@home.txt", "./a@b.txt"]},
    ],
)  # fmt: skip
def test_what_names_no_recipient_does_not_count(other: dict[str, Any]) -> None:
    assert allows("to=*@example.com", to=FRIEND, **other)


# --- rules that restrict ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "file:///etc/passwd", "FILE:/etc/passwd", "../../etc/passwd", "--file=/etc/passwd", "x=/etc/passwd",
        "%2fetc%2fpasswd", "%252Fetc%252Fpasswd", "/e\u200btc/passwd", "/\uff45tc/passwd", "/etc/../etc/./passwd",
        "//etc//passwd", "/ETC/passwd", "a:/etc/passwd", "cat '/etc/passwd'", "[/etc/passwd]", "{a:/etc/passwd}", "\\etc\\passwd",
        "a|/etc/passwd", "`/etc/passwd`", "$(cat /etc/passwd)", "@/etc/passwd", "-d@/etc/passwd", "-f/etc/passwd",
        "file://localhost/etc/passwd", "!/etc/passwd",
    ],
)  # fmt: skip
def test_a_restricting_rule_finds_a_path_in_any_spelling(path: str) -> None:
    assert restricts("path=/etc/*", path=path)
    assert restricts("path=/etc/*", path=["x", {"y": path}])
    assert restricts("path=/etc/*", PATH=path)


@pytest.mark.parametrize(
    "to",
    ["x@evil.org", "x%40evil.org", "x@evil\u3002org", "x@evil\uff0eorg", "x@ev\u00adil.org", "X@EVIL.ORG", "to:x@evil.org,y",
     "mailto:x@evil.org?subject=a", "x@evil.org.", "x @ evil.org", "x@\nevil.org", "\u201cx@evil.org\u201d", "x@evil.org!",
     "*x@evil.org*"],
)  # fmt: skip
def test_a_restricting_rule_finds_an_address_in_any_spelling(to: str) -> None:
    assert restricts("to=*@evil.org", to=to)
    assert restricts(r"to~=@evil\.org", to=to)


def test_a_restricting_rule_finds_words_and_international_hosts() -> None:
    assert restricts("command~=sudo", command="su\u200bdo x")
    assert restricts("command=sudo", command="a; s\uff55do x")
    assert restricts("to=*@m\u00fcller.de", to="x@xn--mller-kva.de")
    assert not restricts("to=*@m\u00fcller.de", to="x@xn--mller-.de")


@pytest.mark.parametrize(
    "command",
    ["cd /tmp; rm -rf x", "cd /tmp && rm -rf x", " rm -rf x", "rm\t-rf x", "true\nrm -rf x", "x | rm -rf y", "(rm -rf x)",
     "$(rm -rf x)", "/bin/rm -rf x", ["rm", "-rf", "x"], "a&rm -rf x"],
)  # fmt: skip
def test_a_restricting_rule_finds_a_command_at_any_place(command: Any) -> None:
    assert restricts("command=rm *", command=command)


@pytest.mark.parametrize(
    "command",
    ["r\\\nm x", "rm${IFS}x", "rm$IFS$9x", "{rm,x}", "env -i rm x", "timeout 5 rm x", "eval rm x", "eval 'rm x'", "sudo rm x", "sudo -u bob rm x",
     ["sudo", "rm", "x"], "/usr/bin/env rm x", "/usr/bin/env -S A=1 rm x", "r$@m x", "r${@}m x", "find . -exec rm {} +", "nohup nice -n 5 rm x &",
     "xargs -0 rm -f", "sh -ec 'rm x'", "A=1 B+=2 rm x", "while true; do rm x; done", "flock /tmp/l rm x", "a=$(rm x)", "true & rm x",
     "fish -c '(rm x)'", "bash <<< 'rm x'"],
)  # fmt: skip
def test_a_restricting_rule_finds_a_command_that_another_runs(command: Any) -> None:
    assert restricts("command=rm *", command=command)


@pytest.mark.parametrize(
    "command", ["git commit -m 'rm x'", "find . -name rm -type f", "echo rm x", "arm x", "ls rm", "git rm x"]
)
def test_a_restricting_rule_finds_no_command_that_is_a_word_of_another(command: str) -> None:
    assert not restricts("command=rm *", command=command)


@pytest.mark.parametrize(
    "path",
    ["/proc/self//root/etc/passwd", "/proc/self/cwd/../../etc/passwd", "/dev/fd/../root/etc/passwd", "/var/run/../etc/passwd",
     "/proc/self/./root/etc/passwd", "/proc/thread-self/root/etc/passwd", "$HOME/../etc/passwd", "~root/../etc/passwd", "$x/etc/passwd",
     "${x}/etc/passwd", "~/../../etc/passwd", "/proc/1/fd/3/../../etc/passwd", "/proc/self/fd/../root/etc/passwd"],
)  # fmt: skip
def test_a_restricting_rule_finds_a_path_behind_links_and_variables(path: str) -> None:
    assert restricts("path=/etc/*", path=path)


@pytest.mark.parametrize(
    "path", ["~/etc/notes.txt", "app/[id]/etc/x", "./etc/x", "a/etc/x", "$HOME/etc/x", "/home/etc/x"]
)
def test_a_restricting_rule_leaves_other_paths_alone(path: str) -> None:
    assert not restricts("path=/etc/*", path=path)


@pytest.mark.parametrize(
    "url",
    ["http://2130706433/admin", "http://0x7f000001/admin", "http://0177.0.0.1/admin", "http://127.1/admin", "http://[::ffff:127.0.0.1]/admin",
     "http://[::ffff:7f00:1]:80/admin", "http://127.0.0.1:080/admin", "http://127.0.0.1:/admin", "http://127.0.0.1//admin",
     "http://127.0.0.1/./admin", "http://127.0.0.1/x/../admin", "http://0x7f.1:80/x/..//admin?a=b", "http://127.0.0.1.:80/admin",
     "http://127.0.0.1/%61dmin", "http://me@0:pw@127.1/admin", "HTTP:\\\\127.1\\admin"],
)  # fmt: skip
def test_a_restricting_rule_finds_a_url_in_any_spelling(url: str) -> None:
    assert restricts("url=http://127.0.0.1/admin*", url=url)


def test_a_restricting_rule_reads_an_argument_that_is_json() -> None:
    assert restricts("message.to=*@evil.org", message='{"to": ["x@evil.org"]}')
    assert restricts("message.to=*@evil.org", message='[{"TO": "x@evil.org"}]')
    assert not restricts("message.to=*@evil.org", message='{"from": "x@evil.org"}')
    assert not restricts("message.to=*@evil.org", message="[" * 90_000)


@pytest.mark.no_cover
@pytest.mark.parametrize(
    "text",
    ["a" + "\u0301\u0323" * 49_000, "a" * 99_000 + "/", "a-" * 49_000 + "/", "a:" * 49_000 + "/", "(a" * 49_000 + "@"],
)
def test_a_text_that_is_made_to_be_slow_takes_no_long_time(text: str) -> None:
    assert not restricts("to=*@evil.org", to=text)
    assert not allows("to=*@evil.org", to=text)


def transform(draw: st.DrawFn, text: str) -> str:
    """Write some characters of the text in another way, which a program reads as the same."""
    result = ""
    for character in text:
        match draw(st.sampled_from(["same", "same", "percent", "invisible", "wide", "upper"])):
            case "percent":
                result += (
                    "%" + quote(character, safe="")[1:]
                    if "%" in quote(character, safe="")
                    else f"%{ord(character):02X}"
                )
            case "invisible":
                result += character + draw(st.sampled_from("\u200b\u2060\u00ad\ufeff"))
            case "wide" if "!" <= character <= "~" and character not in "/.":
                result += chr(ord(character) + 0xFEE0)
            case "upper":
                result += character.upper()
            case _:
                result += character
    return result


@st.composite
def spelled(draw: st.DrawFn, text: str) -> str:
    prefix = draw(st.sampled_from(["", "x=", "--to=", "file://", "a, ", "(", "'", "b;", "\n"]))
    return prefix + transform(draw, text)


@given(spelled("/etc/passwd"))
def test_a_restricting_rule_finds_any_spelling_of_a_path(path: str) -> None:
    assert restricts("path=/etc/passwd*", path=path)


@given(spelled("x@evil.org"))
def test_a_restricting_rule_finds_any_spelling_of_an_address(to: str) -> None:
    assert restricts("to=*@evil.org", to=to)


def test_a_regular_expression_that_repeats_too_often_is_refused() -> None:
    for pattern in ("a{4294967294}", "a{1,99999}"):
        with pytest.raises(ValueError, match="a regular expression repeats at most 10,000 times"):
            parse_pattern(f"m.send(to~={pattern})")
