"""`flowherd import crontab`: a crontab as a project file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from flowherd.config.toml_files import read_toml
from tests.support.commands import CommandLine

CRONTAB = r"""# Edit this file to introduce tasks to be run by cron.
SHELL=/bin/bash
PATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin
MAILTO="ops@example.org"

# m h  dom mon dow   command
0 * * * *       /usr/local/bin/sensor-hourly
*/5 * * * *     /usr/local/bin/price-feed.sh --quiet
40 * * * *      cd /srv/shop && ./manage.py invoices
30 2 * * *      /usr/local/bin/backup.sh /srv > /dev/null 2>&1
30 2 * * 6      /usr/local/bin/backup.sh --full /srv
@daily          find /tmp -mtime +3 -delete
@hourly         test -e /run/paused || /opt/sync/sync.py
@weekly         nice -n 19 /usr/bin/python3 -m reports.weekly --to "$MAILTO"
@monthly        psql -c 'VACUUM' shop
@yearly         /usr/local/bin/happy-new-year
0 9 1 * *       mail -s "Rent" flat@example.org%Dear all,%%please pay.%
15 14 1 * *     echo "it is $(date +\%Y-\%m)"
0 22 * * 1-5    mail -s "It's 10pm" joe%Joe,%%Where are your kids?%
23 0-23/2 * * * echo "run 23 minutes after midn, 2am, 4am"
5 4 * * sun     echo "run at 5 after 4 every Sunday"
0 4 8-14 * *    test $(date +\%u) -eq 6 && echo "2nd Saturday"
0 0 1,15 * fri  /usr/local/bin/friday-or-fortnight
*/15 8-18 * * mon-fri flock -n /run/lock/q.lock php /var/www/cron.php
@reboot         /opt/daemon/start
TZ=UTC
10 0 * * *      /usr/local/bin/utc-in-the-job
'A B' = "quoted value"
12 0 * * *      env
0 0 29 2 *      /usr/local/bin/leap
59 23 31 12 *   /usr/local/bin/fireworks
0 0 31 4 *      /usr/local/bin/never
"""


def flows(text: str, directory: Path) -> dict[str, Any]:
    file = directory / "flows.toml"
    file.write_text(text)
    data = read_toml(file)
    assert data is not None
    return dict(data["flows"])


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    return CommandLine(tmp_path_factory.mktemp("home"), env={"TZ": "Europe/Berlin"})


def test_every_line_of_a_crontab_is_taken_over_or_named(command: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "crontab").write_text(CRONTAB)
    done = command("import", "crontab", str(tmp_path / "crontab"), code=1)
    found = flows(done.stdout, tmp_path)
    lines = [line for line in CRONTAB.splitlines() if line[:1] in "0123456789*@" and line]
    assert len(found) == len(lines) - 1
    assert all(f": {line}\n" in done.stdout for line in lines)
    assert (
        f"line {len(CRONTAB.splitlines())} (not taken over): it never fires: there is no day 31 in month 4"
        in done.stderr
    )
    assert " (start): there is no @reboot" in done.stderr
    assert done.stderr.count("\n") == 4  # with the step from 0-23, and the sum
    assert f"{len(found)} flows from {tmp_path}/crontab; 1 line not taken over" in done.stderr
    assert {"backup", "backup-2", "reports-weekly", "manage", "sync", "cron"} <= found.keys()
    assert [name for name, flow in found.items() if "cron" not in flow] == ["start"]
    assert {flow["timezone"] for flow in found.values() if "cron" in flow} == {"Europe/Berlin"}
    assert found["env"]["env"]["A B"] == "quoted value" and found["utc-in-the-job"]["env"]["TZ"] == "UTC"
    assert "ops@example.org" in done.stdout.partition("project =")[0]


def test_a_job_reads_its_input_and_its_text_as_under_cron(command: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "crontab"
    file.write_text("@daily cat # to the end%It's%%50\\% \"x\" $HOME%\n@daily echo 100\\% '{}'; exit 3\n")
    first, second = flows(command("import", "crontab", str(file)).stdout, tmp_path).values()
    assert subprocess.check_output(first["command"], text=True) == 'It\'s\n\n50% "x" $HOME\n'
    done = subprocess.run(second["command"], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("100% {}\n", 3)


def test_a_users_crontab_is_that_of_the_program(tmp_path: Path) -> None:
    program = tmp_path / "crontab"
    program.write_text(
        '#!/bin/sh\n[ "$*" = "-l -u nobody" ] || { echo "no crontab for $3" >&2; exit 1; }\necho "@daily x"\n'
    )
    program.chmod(0o755)
    command = CommandLine(tmp_path / "home", env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    done = command("import", "crontab", "--user", "nobody", "--timezone", "Asia/Tokyo", "--project", "p")
    assert 'user = "nobody"' in done.stdout and 'timezone = "Asia/Tokyo"' in done.stdout
    assert 'project = "p"' in done.stdout and "agent that runs as root" in done.stderr
    assert "no crontab for alice" in command("import", "crontab", "--user", "alice", code=4).stderr


def test_the_system_crontab_names_users(command: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "crontab"
    file.write_text("17 * * * * nobody run-parts /etc/cron.hourly\n")
    found = flows(command("import", "crontab", "--system", str(file)).stdout, tmp_path)
    assert (found["run-parts"]["user"], found["run-parts"]["cron"]) == ("nobody", "17 * * * *")
    command("import", "crontab", "/etc/crontab", "--user", "x", code=2)
    command("import", "crontab", str(tmp_path / "none"), code=4)
    command("import", "crontab", str(file), "--timezone", "Mars/Base", code=2)
