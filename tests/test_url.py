"""URLs with secrets: read beyond doubt or not at all, and shown without what they keep secret."""

import pytest

from service.url import (
    MONGODB,
    POSTGRESQL,
    UNREADABLE,
    database,
    describe_error,
    link_problem,
    needs_https,
    parse,
    web,
    without_password,
)

SECRET = "Heron"
RAW = ["Heron/owl", "Heron#owl", "Heron?owl", "Heron@owl", "Heron[owl", "Heron]owl", "Heron%owl", "Heron owl",
       "Heron\towl", "Heron\nowl", "9/Heron", "9?Heron", "9#Heron", "9/Heron=owl", "9?Heron=owl",
       "9?appName=Heron", "℀Heron/", "Heron%2", "Heron//owl@x", "Heron@[::1]:"]  # fmt: skip
"""Passwords as somebody writes them who does not know that they must be encoded."""


@pytest.mark.parametrize("scheme", [*MONGODB, *POSTGRESQL, "https"])
@pytest.mark.parametrize("password", RAW)
def test_a_password_that_is_not_encoded_is_neither_read_nor_shown(scheme: str, password: str) -> None:
    url = f"{scheme}://jobs:{password}@db.example:5432/jobs"

    assert parse(url) is None
    assert without_password(url) == UNREADABLE
    for read in (web, lambda text: database(text, (*MONGODB, *POSTGRESQL), "another scheme")):
        with pytest.raises(ValueError, match=r".") as caught:
            read(url)
        assert SECRET not in str(caught.value)
        assert "owl" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("", ""),
        ("postgresql://h/d", None),
        ("postgresql:///d?host=/run/postgresql", None),
        ("postgresql://u@[::1]:5432/d", None),
        ("postgresql://h1:5432,h2:5433/d?target_session_attrs=read-write", None),
        ("mongodb://h1:27017,h2:27017/db?replicaSet=x&readPreferenceTags=dc:ny,rack:1", None),
        ("mongodb+srv://cluster.example.net/db?retryWrites=true&w=majority", None),
        ("https://dash.example/#/goals", None),
        ("postgresql://u:Heron@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:Heron:owl@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:@h/d", "postgresql://u:***@h/d"),
        ("postgresql://:Heron@h/d", "postgresql://:***@h/d"),
        ("postgresql://u:Her%2Fon@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:Heron@[::1]:1,[fe80::1%25eth0]/d", "postgresql://u:***@[::1]:1,[fe80::1%25eth0]/d"),
        ("postgresql://%2Fvar%2Frun/d?password=Heron", "postgresql://%2Fvar%2Frun/d?password=***"),
        ("postgresql://h/d?sslpassword=Heron&sslmode=require", "postgresql://h/d?sslpassword=***&sslmode=require"),
        ("postgresql://h/d?options=-c%20a%3DHeron", "postgresql://h/d?options=***"),
        ("postgresql://h/d?sslmode=require;password=Heron", "postgresql://h/d?sslmode=require&password=***"),
        ("mongodb://u:Heron@h1:27017,h2:27017/db?replicaSet=x", "mongodb://u:***@h1:27017,h2:27017/db?replicaSet=x"),
        (
            "mongodb://u@h/d?authMechanism=MONGODB-AWS&authMechanismProperties=AWS_SESSION_TOKEN:Heron",
            "mongodb://u@h/d?authMechanism=MONGODB-AWS&authMechanismProperties=***",
        ),
        ("mongodb://a:Heron==@a.example:10255/?ssl=true&appName=@a@", "mongodb://a:***@a.example:10255/?ssl=true&appName=***"),
        ("https://Heron@h/metrics", "https://***@h/metrics"),
        ("https://u:Heron@h/metrics?access=Heron&x", "https://u:***@h/metrics?access=***&***"),
    ],
)  # fmt: skip
def test_what_may_be_shown_is_shown_and_nothing_else(url: str, shown: str | None) -> None:
    assert without_password(url) == (url if shown is None else shown)
    assert SECRET not in repr(parse(url))


@pytest.mark.parametrize(
    "url",
    ["mongodb://u:a:b@h/d", "mongodb:///d", "mongodb://h/d#x", "mongodb://h/d?replicaSet", "postgresql://h:x/d",
     "postgresql://h:65536/d", "postgresql://[::1/d", "postgresql://[::x]/d", "postgresql://h/d?a"],
)  # fmt: skip
def test_what_a_driver_would_refuse_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="percent-encode"):
        database(url, (*MONGODB, *POSTGRESQL), "another scheme")


def test_another_scheme_is_said_to_be_one() -> None:
    for url in ("", "mysql://u:Heron@h/d", "Heron", '"postgresql://u:Heron@h/d"', "postgresql:h"):
        with pytest.raises(ValueError, match=r"^another scheme$"):
            database(url, POSTGRESQL, "another scheme")


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "0.0.0.0:8080", "[::]", "[::]:8080", "[0:0::0]", "[::ffff:0.0.0.0]", "０.0.0.0",
             "0.0.0.0."]
)  # fmt: skip
def test_no_link_leads_to_where_everybody_is_listened_to(host: str) -> None:
    for scheme in ("http", "https"):
        assert "0.0.0.0" in (link_problem(f"{scheme}://{host}/x") or "")


@pytest.mark.parametrize("host", ["0", "0.0", "127.1", "0x7f.1", "2130706433", "a,b", "%30.0.0.0", "", ":80"])
def test_a_number_is_no_name(host: str) -> None:
    with pytest.raises(ValueError, match="web address"):
        web(f"https://{host}/")


def test_only_this_machine_may_be_led_to_by_http() -> None:
    own = [
        "127.0.0.1",
        "127.8.9.10:8080",
        "localhost:3000",
        "LOCALHOST",
        "localhost.",
        "[::1]:80",
        "[::ffff:127.0.0.1]",
    ]
    for host in own:
        assert not needs_https(f"http://{host}")
    for host in ("10.0.0.1", "jobs.example", "localhost.example", "[::2]", "128.0.0.1", "192.168.0.4:80"):
        assert needs_https(f"http://{host}")
        assert not needs_https(f"https://{host}")


def test_a_link_holds_no_login() -> None:
    for user in ("u", "u:p", ":p", ""):
        assert "password" in (link_problem(f"https://{user}@dash.example") or "")
    assert link_problem("https://dash.example/app") is None


def test_a_drivers_words_are_kept_unless_they_quote() -> None:
    url = "mongodb://jobs:Heron-owl@h/d?authMechanismProperties=TOKEN:wren&maxPoolSize=many"

    assert (
        describe_error(ValueError("maxPoolSize is not 'many'"), url)
        == "ValueError: maxPoolSize is not 'many'"
    )
    for words in ("not Heron-owl", "port 'n-owl'", "no mechanism TOKEN:wren", "bad wren"):
        assert describe_error(ValueError(words), url) == "ValueError"
    assert describe_error(ValueError("anything"), "mongodb://jobs:a/b@h") == "ValueError: anything"
    assert describe_error(ValueError("port a"), "a") == "ValueError"
