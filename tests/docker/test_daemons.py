"""The fake daemon answers as the real one does: each test asks both, over raw HTTP."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import cast

import pytest

from onready.backends.docker.frames import LogFrames, nanoseconds
from tests.docker.engines import SHELL
from tests.docker.raw import Answer, Json, call, create, names, state

pytestmark = pytest.mark.timeout(120)
NEVER = "0001-01-01T00:00:00Z"


class Host:
    """One daemon, and the containers that a test makes of it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._made: list[str] = []

    def create(self, name: str, *argv: str, **host_config: object) -> Answer:
        self._made.append(name)
        return create(self.address, name, *argv, image=SHELL, **host_config)

    def made(self, name: str, *argv: str, **host_config: object) -> str:
        """Created, and it must be; its id."""
        answer = self.create(name, *argv, **host_config)
        assert answer.status == 201, answer
        return str(answer.json["Id"])

    def ran(self, name: str, *argv: str, **host_config: object) -> int:
        """Created, started, ended: its exit code."""
        self.made(name, *argv, **host_config)
        assert self.post(name, "start").status == 204
        return self.wait(name)

    def post(self, name: str, what: str, **query: object) -> Answer:
        return call(self.address, "POST", f"containers/{name}/{what}", None, **query)

    def get(self, name: str, what: str, **query: object) -> Answer:
        return call(self.address, "GET", f"containers/{name}/{what}", None, **query)

    def remove(self, name: str, **query: object) -> Answer:
        return call(self.address, "DELETE", f"containers/{name}", None, **query)

    def wait(self, name: str) -> int:
        answer = self.post(name, "wait")
        assert answer.status == 200
        return cast("int", answer.json["StatusCode"])

    def state(self, name: str) -> Json:
        return state(self.address, name)

    def logs(self, name: str, **query: object) -> Answer:
        answer = self.get(name, "logs", **{"stdout": 1, "stderr": 1, **query})
        assert answer.status == 200, answer
        return answer

    def clean(self) -> None:
        for name in self._made:
            self.remove(name, force=1)


@pytest.fixture(scope="module", params=["fake", "real"])
def address(request: pytest.FixtureRequest) -> str:
    """The fake's, and a real one's."""
    return str(request.getfixturevalue("fake" if request.param == "fake" else "engine"))


@pytest.fixture
def host(address: str) -> Generator[Host]:
    made = Host(address)
    yield made
    made.clean()


# --- the daemon -----------------------------------------------------------------------------------


def test_what_it_says_of_itself(host: Host) -> None:
    version = call(host.address, "GET", "/version")
    assert version.headers["Content-Type"] == "application/json"
    api = str(version.json["ApiVersion"])
    assert {"Version", "MinAPIVersion", "Components"} <= set(version.json)
    ping = call(host.address, "GET", "/_ping")
    assert (ping.status, ping.body, ping.headers["Api-Version"]) == (200, b"OK", api)
    assert ping.headers["Server"].startswith("Docker/")
    info = call(host.address, "GET", "info").json
    assert {"Driver", "MemoryLimit", "CgroupDriver", "CgroupVersion", "SecurityOptions"} <= set(
        info
    )
    answer = call(host.address, "GET", "/v1.99/info")
    expected = f"client version 1.99 is too new. Maximum supported API version is {api}"
    assert (answer.status, answer.message) == (400, expected)
    answer = call(host.address, "GET", "nothing")
    assert (answer.status, answer.message) == (404, "page not found")
    assert answer.headers["Content-Type"] == "application/json"


def test_images(host: Host) -> None:
    answer = call(host.address, "GET", f"images/{SHELL}/json")
    assert answer.status == 200
    assert str(answer.json["Id"]).startswith("sha256:")
    assert answer.json["RepoTags"] == [SHELL]
    answer = call(host.address, "GET", "images/onready-none:1/json")
    assert (answer.status, "No such image: onready-none:1" in answer.message) == (404, True)
    image = "nowhere.invalid/none:1"
    answer = call(host.address, "POST", "images/create", fromImage=image)
    assert answer.status == 500
    assert answer.message.startswith('Get "https://nowhere.invalid/v2/": dial tcp: lookup')


# --- creating and removing ------------------------------------------------------------------------


def test_a_name_is_taken_once(host: Host) -> None:
    first = host.made("raw-one", "true")
    answer = host.create("raw-one", "true")
    assert answer.status == 409
    assert answer.message == (
        f'Conflict. The container name "/raw-one" is already in use by container "{first}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )


def test_what_cannot_be_created(host: Host) -> None:
    answer = create(host.address, "raw-none", "true", image="onready-none")
    assert (answer.status, answer.message) == (404, "No such image: onready-none:latest")
    mount = {"Type": "bind", "Source": "/no/such", "Target": "/x", "ReadOnly": True}
    answer = host.create("raw-none", "true", Mounts=[mount])
    words = 'invalid mount config for type "bind": bind source path does not exist: /no/such'
    assert (answer.status, answer.message) == (400, words)
    answer = call(host.address, "POST", "containers/create", {"Image": SHELL}, name="raw-none")
    assert (answer.status, answer.message) == (400, "No command specified")
    assert "raw-none" not in names(host.address)


def test_removing_twice_and_while_it_runs(host: Host) -> None:
    made = host.made("raw-one", "sleep", "60")
    assert host.post("raw-one", "start").status == 204
    answer = host.remove("raw-one", v=1)
    assert answer.status == 409
    assert answer.message.startswith(f"You cannot remove a running container {made}.")
    assert host.remove("raw-one", v=1, force=1).status == 204
    for answer in (
        host.remove("raw-one"),
        host.get("raw-one", "json"),
        host.get("raw-one", "logs", stdout=1),
        host.post("raw-one", "start"),
        host.post("raw-one", "wait"),
        host.post("raw-one", "stop"),
    ):
        assert (answer.status, answer.message) == (404, "No such container: raw-one")
    answer = host.post("raw-one", "kill")
    words = "Cannot kill container: raw-one: No such container: raw-one"
    assert (answer.status, answer.message) == (404, words)


def test_a_removal_that_is_on_its_way(host: Host) -> None:
    # A race: whoever comes second is told so, or that it is gone.
    host.made("raw-one", "sleep", "60")
    assert host.post("raw-one", "start").status == 204
    answers: list[Answer] = []
    threads = [
        threading.Thread(target=lambda: answers.append(host.remove("raw-one", force=1)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status for answer in answers].count(204) == 1
    for answer in answers:
        if answer.status == 409:
            assert "removal of container" in answer.message
            assert "is already in progress" in answer.message
        else:
            assert answer.status in {204, 404}


def test_lists_are_filtered(host: Host) -> None:
    host.made("raw-idle", "true")
    host.made("raw-busy", "sleep", "60")
    assert host.post("raw-busy", "start").status == 204
    ours = ["onready-raw"]
    assert sorted(names(host.address, label=ours)) == ["raw-busy", "raw-idle"]
    assert names(host.address, everything=False, label=ours) == ["raw-busy"]
    assert names(host.address, label=["onready-raw=raw-idle"]) == ["raw-idle"]
    assert names(host.address, label=["onready-none"]) == []
    given = json.dumps({"label": ours})
    answer = call(host.address, "GET", "containers/json", all=1, filters=given)
    row = next(row for row in json.loads(answer.body) if row["Names"] == ["/raw-busy"])
    assert (row["Labels"], row["State"]) == ({"onready-raw": "raw-busy"}, "running")


# --- starting, waiting, ending --------------------------------------------------------------------


def test_what_inspection_says_from_beginning_to_end(host: Host) -> None:
    made = host.made("raw-one", "sh", "-c", "exit 3")
    body = host.get("raw-one", "json").json
    assert (body["Id"], body["Name"]) == (made, "/raw-one")
    config = cast("Json", body["Config"])
    assert config["Labels"] == {"onready-raw": "raw-one"}
    assert (config["Image"], config["Tty"]) == (SHELL, False)
    idle = {
        "Status": "created",
        "Running": False,
        "OOMKilled": False,
        "Dead": False,
        "Pid": 0,
        "ExitCode": 0,
        "Error": "",
        "StartedAt": NEVER,
        "FinishedAt": NEVER,
    }
    assert {name: host.state("raw-one")[name] for name in idle} == idle
    assert host.wait("raw-one") == 0, "what never ran is not waited for"
    assert host.post("raw-one", "start").status == 204
    assert host.wait("raw-one") == 3
    assert host.wait("raw-one") == 3, "nor what has ended"
    ended = host.state("raw-one")
    said = (ended["Status"], ended["Running"], ended["ExitCode"], ended["OOMKilled"])
    assert said == ("exited", False, 3, False)
    # A real one may have it end a little before it began: different clocks write them.
    assert all(nanoseconds(str(ended[name]).encode()) > 0 for name in ("StartedAt", "FinishedAt"))
    # By id, and by the beginning of one.
    for name in (made, made[:12]):
        assert host.get(name, "json").json["Id"] == made


def test_what_runs_is_not_started_again(host: Host) -> None:
    host.made("raw-one", "sleep", "60")
    assert host.post("raw-one", "start").status == 204
    assert host.state("raw-one")["Status"] == "running"
    assert cast("int", host.state("raw-one")["Pid"]) > 0
    answer = host.post("raw-one", "start")
    assert (answer.status, answer.body) == (304, b"")


def test_a_program_that_is_not_there(host: Host) -> None:
    host.made("raw-bare", "no-such-program", Init=False)
    answer = host.post("raw-bare", "start")
    assert answer.status == 400
    assert "OCI runtime create failed" in answer.message
    assert 'exec: "no-such-program": executable file not found in $PATH' in answer.message
    found = host.state("raw-bare")
    assert (found["Status"], found["ExitCode"], found["Error"]) == ("created", 127, answer.message)
    assert found["StartedAt"] == NEVER
    assert host.wait("raw-bare") == 127
    # With an init it begins, and ends with the same code.
    assert host.ran("raw-init", "no-such-program") == 127
    (stream, said), *more = host.logs("raw-init").frames
    assert (stream, more) == (2, [])
    assert said.startswith(b"[FATAL tini (")
    assert said.endswith(b")] exec no-such-program failed: No such file or directory\n")


def test_wait_answers_when_it_ends(host: Host) -> None:
    host.made("raw-one", "sh", "-c", "sleep 0.5; exit 5")
    assert host.post("raw-one", "start").status == 204
    assert host.wait("raw-one") == 5
    assert host.state("raw-one")["Status"] == "exited"


@pytest.mark.parametrize("init", [True, False])
def test_killed(host: Host, init: bool) -> None:
    host.made("raw-one", "sleep", "60", Init=init)
    assert host.post("raw-one", "start").status == 204
    assert host.post("raw-one", "kill", signal="SIGKILL").status == 204
    assert host.wait("raw-one") == 137
    found = host.state("raw-one")
    assert (found["ExitCode"], found["OOMKilled"]) == (137, False)
    answer = host.post("raw-one", "kill")
    assert answer.status == 409
    assert answer.message.endswith(" is not running")


def test_signals_reach_the_program(host: Host) -> None:
    text = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.02; done"
    host.made("raw-one", "sh", "-c", text)
    assert host.post("raw-one", "start").status == 204
    end = time.monotonic() + 30
    while not host.logs("raw-one").frames:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert host.post("raw-one", "stop", t=30).status == 204
    assert host.wait("raw-one") == 9
    assert [said for _, said in host.logs("raw-one").frames] == [b"ready\n", b"caught\n"]
    answer = host.post("raw-one", "stop", t=1)
    assert (answer.status, answer.body) == (304, b"")


def test_who_is_number_one_and_does_not_listen_is_killed(host: Host) -> None:
    host.made("raw-one", "sh", "-c", "while :; do sleep 0.1; done", Init=False)
    assert host.post("raw-one", "start").status == 204
    assert host.post("raw-one", "stop", t=1).status == 204
    assert host.state("raw-one")["ExitCode"] == 137


def test_want_of_memory(host: Host) -> None:
    limit = {"Memory": 16 << 20, "MemorySwap": 16 << 20}
    assert host.ran("raw-one", "sh", "-c", "x=$(yes | head -c 200000000)", **limit) == 137
    found = host.state("raw-one")
    assert (found["OOMKilled"], found["Status"]) == (True, "exited")


def test_all_processes_go_with_the_first(host: Host, tmp_path: Path) -> None:
    mount = {"Type": "bind", "Source": str(tmp_path), "Target": "/shared", "ReadOnly": False}
    text = "(while :; do date >/shared/beat; sleep 0.05; done) & sleep 0.3; exit 0"
    text = text.replace("date", "cat /proc/uptime")
    assert host.ran("raw-one", "sh", "-c", text, Mounts=[mount]) == 0
    beat = (tmp_path / "beat").read_text()
    time.sleep(0.2)
    assert (tmp_path / "beat").read_text() == beat


def test_mounts(host: Host, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mounted")
    mounts = [
        {"Type": "bind", "Source": str(tmp_path), "Target": target, "ReadOnly": read_only}
        for target, read_only in (("/here/rw", False), ("/run/ro", True))
    ]
    text = "cat /run/ro/there; echo made > /here/rw/made; echo no > /run/ro/no"
    assert host.ran("raw-one", "sh", "-c", text, Mounts=mounts) != 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "there"]
    said: dict[int, bytes] = {1: b"", 2: b""}
    for stream, part in host.logs("raw-one").frames:
        said[stream] += part
    assert said[1] == b"mounted"
    assert b"ead-only file system" in said[2]


# --- output ---------------------------------------------------------------------------------------


def test_output_is_in_frames(host: Host) -> None:
    assert host.ran("raw-one", "sh", "-c", "echo out; echo err >&2; printf tail") == 0
    frames = host.logs("raw-one").frames
    assert [said for stream, said in frames if stream == 1] == [b"out\n", b"tail"]
    assert [said for stream, said in frames if stream == 2] == [b"err\n"]
    assert [stream for stream, _ in host.logs("raw-one", stdout=0).frames] == [2]
    answer = host.get("raw-one", "logs")
    words = "Bad parameters: you must choose at least one stream"
    assert (answer.status, answer.message) == (400, words)


def test_output_has_stamps_and_is_read_from_one(host: Host) -> None:
    assert host.ran("raw-one", "sh", "-c", "echo a; sleep 0.05; echo b; sleep 0.05; echo c") == 0
    frames = host.logs("raw-one", timestamps=1).frames
    stamps = [said.partition(b" ")[0] for _, said in frames]
    assert [said.partition(b" ")[2] for _, said in frames] == [b"a\n", b"b\n", b"c\n"]
    assert all(len(stamp) == 30 and stamp.endswith(b"Z") for stamp in stamps), stamps
    times = [nanoseconds(stamp) for stamp in stamps]
    assert times == sorted(times)
    for at, expected in (
        (times[1], [b"b\n", b"c\n"]),  # what has that very stamp comes
        (times[1] + 1, [b"c\n"]),
        (times[2] + 1, []),
    ):
        since = f"{at // 1_000_000_000}.{at % 1_000_000_000:09}"
        assert [said for _, said in host.logs("raw-one", since=since).frames] == expected


def test_output_is_followed_to_its_end(host: Host) -> None:
    host.made("raw-one", "sh", "-c", "echo a; sleep 0.4; echo b >&2; sleep 0.1; exit 1")
    assert host.post("raw-one", "start").status == 204
    assert host.logs("raw-one", follow=1).frames == [(1, b"a\n"), (2, b"b\n")]
    assert host.state("raw-one")["ExitCode"] == 1


def test_a_long_line_comes_in_pieces_with_one_stamp(host: Host) -> None:
    text = "head -c 40000 /dev/zero | tr '\\0' x; echo; head -c 16384 /dev/zero | tr '\\0' y; echo"
    assert host.ran("raw-one", "sh", "-c", f"{text}; printf end") == 0
    answer = host.logs("raw-one", timestamps=1)
    parts = [said.partition(b" ") for _, said in answer.frames]
    sizes = [len(text.removesuffix(b"\n")) for _, _, text in parts]
    assert sizes == [16384, 16384, 7232, 16384, 0, 3]
    assert len({stamp for stamp, _, _ in parts[:3]}) == 1
    got: list[bytes] = []
    frames = LogFrames(lambda _, data: got.append(data))
    frames.begin()
    frames.feed(answer.body)
    assert b"".join(got) == b"x" * 40_000 + b"\n" + b"y" * 16_384 + b"\nend"


def test_what_has_not_begun_has_no_output(host: Host) -> None:
    host.made("raw-one", "true")
    assert host.logs("raw-one").body == b""
