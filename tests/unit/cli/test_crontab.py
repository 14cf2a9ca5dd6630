"""What crontab(5) lines say, the names of their jobs, and the flows that they become."""

from __future__ import annotations

import pytest

from flowherd.cli.crontab.convert import Entry, Surroundings, convert
from flowherd.cli.crontab.crontab_lines import CrontabJob, WrongLine, crontab_lines
from flowherd.cli.crontab.job_names import job_name


def jobs(text: str, *, with_users: bool = False) -> list[CrontabJob]:
    found = list(crontab_lines(text, with_users=with_users))
    return [line for line in found if isinstance(line, CrontabJob)]


def entries(text: str, *, owner: str | None = None, with_users: bool = False) -> list[Entry]:
    surroundings = Surroundings(owner=owner, agent_user="root", zone="Europe/Berlin")
    return convert(crontab_lines(text, with_users=with_users), surroundings)


def test_settings_hold_for_the_lines_below_them() -> None:
    text = "A=1\n* * * * * first\n  B = two words  \n'C D'=' x '\nA=\n\n# comment\n* * * * * second # not a comment"
    first, second = jobs(text)
    assert first.settings == {"A": "1"}
    assert second.settings == {"A": "", "B": "two words", "C D": " x "}
    assert second.command == "second # not a comment"
    assert (first.number, second.number) == (2, 8)


def test_an_assignment_before_the_command_belongs_to_the_command() -> None:
    (job,) = jobs("*/5  *\t* * *   LANG=C  run  it")
    assert (job.schedule, job.command) == ("*/5 * * * *", "LANG=C  run  it")
    assert jobs("-30 2 * * * quietly")[0].schedule == "30 2 * * *"


def test_a_percent_sign_begins_the_input_and_further_ones_are_its_newlines() -> None:
    lines = jobs("@daily cat%one%%two\n@daily date +\\%F\n@daily cat%50\\%%\n@daily cat%")
    assert [(job.command, job.stdin) for job in lines] == [
        ("cat", "one\n\ntwo\n"),
        ("date +%F", None),
        ("cat", "50%\n"),
        ("cat", "\n"),
    ]


def test_the_lines_of_the_system_name_a_user() -> None:
    daily, boot = jobs("17 * * * * root cd / && run-parts /etc/cron.hourly\n@reboot www x", with_users=True)
    assert (daily.user, daily.command) == ("root", "cd / && run-parts /etc/cron.hourly")
    assert (boot.schedule, boot.user, boot.command) == ("@reboot", "www", "x")
    (wrong,) = crontab_lines("17 * * * * root", with_users=True)
    assert isinstance(wrong, WrongLine) and "a user" in wrong.why


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/usr/local/bin/backup.sh --full >> /var/log/b 2>&1", "backup"),
        ("cd /srv/app && ./manage.py sendmail", "manage"),
        ("test -x /usr/sbin/anacron || ( cd / && run-parts --report /etc/cron.daily )", "run-parts"),
        ("[ -d /x ] && LANG=C nice -n 10 python3 -u /opt/tool/report.py", "report"),
        ("python3 -m reports.build", "reports-build"),
        ("flock -n /tmp/x.lock php /var/www/site/cron.php", "cron"),
        ("timeout 10m sudo -u www rsync -a a b", "rsync"),
        ("sh -c 'echo x'", "sh"),
        ('echo "not closed', "echo"),
        ("cd /tmp", "job"),
        ("{ date; }", "date"),
    ],
)
def test_a_job_is_named_after_what_it_runs(command: str, name: str) -> None:
    assert job_name(command, ()) == name
    assert job_name(command, (name, f"{name}-2")) == f"{name}-3"


def test_a_job_becomes_a_flow_with_the_shell_the_path_and_the_directory_of_cron() -> None:
    (entry,) = entries("PATH=/opt/bin\nMAILTO=ops\n0 6 * * Mon-Fri  go")
    assert entry.name == "go"
    assert entry.keys == {
        "command": ["/bin/sh", "-c", "go"],
        "cron": "0 6 * * Mon-Fri",
        "timezone": "Europe/Berlin",
        "catch_up": "none",
        "working_dir": "/root",
        "env": {"SHELL": "/bin/sh", "PATH": "/opt/bin"},
    }
    assert (entry.mail_to, entry.notes) == ("ops", [])


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("@reboot x", "no @reboot"),
        ("*/10 2 * * * x", "just after; cron leaves it out"),
        ("0 1-23/2 * * * x", "elapsed time"),
        ("RANDOM_DELAY=5\n@daily x", "RANDOM_DELAY"),
        ("SHELL=/bin/tcsh\n@daily x%input", "pipe of /bin/sh"),
    ],
)
def test_what_differs_from_cron_is_said(line: str, note: str) -> None:
    (entry,) = entries(line)
    assert entry.name == "x"
    assert len(entry.notes) == 1 and note in entry.notes[0]


def test_a_job_of_another_user_needs_an_agent_of_root() -> None:
    (entry,) = entries("@daily x", owner="nobody")
    assert entry.keys["user"] == "nobody" and "root" in entry.notes[0]
    root, unknown = entries("@daily root x\n@daily no-such-user y", with_users=True)
    assert "user" not in root.keys
    assert unknown.keys["user"] == "no-such-user" and "working_dir" not in unknown.keys


def test_a_line_that_cannot_be_followed_is_named_and_has_no_flow() -> None:
    never, wrong, zone = entries("0 0 30 2 * x\nnonsense\nCRON_TZ=Mars/Base\n@daily x")
    assert [entry.name for entry in (never, wrong, zone)] == [None, None, None]
    assert "never fires" in never.notes[0] and "NAME=VALUE" in wrong.notes[0] and "Mars/Base" in zone.notes[0]


def test_the_zone_of_cronie_counts() -> None:
    (entry,) = entries("CRON_TZ=Asia/Tokyo\n@daily x")
    assert entry.keys["timezone"] == "Asia/Tokyo" and "CRON_TZ" not in entry.keys["env"]
