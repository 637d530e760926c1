"""The commands of bootstrap/aws in an empty account: say, ask, do, and leave nothing behind."""

from __future__ import annotations

import argparse
import io
import re
import zipfile
from contextlib import suppress
from pathlib import Path

import boto3
import pytest
from cryptography import x509

from bootstrap.aws import commands
from bootstrap.aws.__main__ import main
from bootstrap.aws.certificates import OBJECT
from bootstrap.aws.environment_files import environment, settings_in
from bootstrap.aws.errors import StackError
from bootstrap.aws.idle_costs import INSTANCE_HOURS, idle_costs
from bootstrap.aws.linked_roles import SERVICES
from bootstrap.aws.stacks import Stack
from bootstrap.aws.template import TEMPLATE, made_resources
from fruits.code_archive import publish_code
from fruits.settings import EU_REGIONS, Settings, SettingsError, load_settings
from tests.aws.accounts import IMAGES, LAKE, Command, buckets, stacks
from tests.aws.stacks import CONTENT, REGION
from tests.conftest import forget_credentials


def test_nothing_is_made_unless_somebody_says_so(command: Command) -> None:
    """What would be made and what it costs is shown; without the word, no stack is left."""
    code, told = command("deploy", "--mail", "me@example.org", answer="yes")

    assert code == 2
    assert "LakeBucket" in told
    assert "at the most" in told
    assert "Nothing was changed" in told
    assert (stacks(), buckets()) == ([], set())


def test_where_nobody_answers_nothing_is_made(command: Command) -> None:
    """A script without a terminal reads the end of its input: that is no word, and no traceback."""
    code, told = command("deploy", "--mail", "me@example.org", answer="")

    assert code == 2
    assert "Nothing was changed" in told
    assert stacks() == []


def test_an_interrupted_question_is_a_no(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C leaves neither a traceback nor the shell of a stack."""

    def interrupted() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupted)

    code, told = command("deploy", "--mail", "me@example.org")

    assert code == 2
    assert "Nothing was changed" in told
    assert stacks() == []


@pytest.mark.parametrize("failure", [StackError("No."), KeyboardInterrupt()])
def test_a_plan_that_comes_to_nothing_is_dropped(
    command: Command, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    """CloudFormation refused it, or somebody gave up waiting: no shell of a stack is left."""

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(Stack, "_changes", fail)

    with suppress(KeyboardInterrupt):
        assert command("deploy", "--mail", "me@example.org", answer="deploy")[0] == 1

    assert stacks() == []


def test_what_cannot_be_shown_is_dropped(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure between the plan and the question leaves no shell of a stack either."""
    monkeypatch.setattr(commands, "idle_costs", lambda *_: {}["no price"])

    with pytest.raises(KeyError):
        command("deploy", "--mail", "me@example.org", answer="deploy")

    assert stacks() == []


def test_a_stack_needs_an_address(command: Command) -> None:
    """The budget's alarm goes to somebody; the message says how to say who."""
    code, told = command("deploy", answer="deploy")

    assert code == 1
    assert "make aws-deploy ALARM_MAIL=" in told
    assert stacks() == []


def test_a_deployed_stack_is_ready(deployed: Command, tmp_path: Path) -> None:
    """Buckets, a certificate for the nodes, and an environment file whose settings are valid."""
    body = boto3.client("s3").get_object(Bucket=LAKE, Key=OBJECT)["Body"].read()
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        pems = {name: archive.read(name) for name in archive.namelist()}
    certificate = x509.load_pem_x509_certificate(pems["certificateChain.pem"])
    lines = (tmp_path / "aws.env").read_text().splitlines()
    written = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    settings = {
        name.removeprefix("FRUITS_").lower(): value
        for name, value in written.items()
        if name.startswith("FRUITS_")
    }

    assert buckets() == {IMAGES, LAKE}
    assert set(pems) == {"privateKey.pem", "certificateChain.pem", "trustedCertificates.pem"}
    assert f"*.{REGION}.compute.internal" in str(certificate.subject)
    assert Settings(**settings).lake == f"s3://{LAKE}"
    assert written["PYICEBERG_CATALOG__FRUITS__TYPE"] == "glue"


def test_the_machine_has_the_same_environment() -> None:
    """What its start-up script writes for Airflow is what the command writes for everybody else."""
    outputs = {name: substituted(one["Value"]) for name, one in CONTENT["Outputs"].items()}
    parameters = {"RetentionDays": "${RetentionDays}", "MoreSettings": ""}
    script = CONTENT["Resources"]["Airflow"]["Properties"]["UserData"]["Fn::Base64"]["Fn::Sub"]
    (here,) = re.findall(r"aws\.env <<'END'\n(.*?)END", script, re.DOTALL)

    lines = [line.strip().partition("=") for line in here.splitlines() if line.strip()]

    of_machine = {name: value for name, _, value in lines}
    assert of_machine == environment(outputs, "${AWS::Region}", parameters)


def substituted(value: dict[str, str]) -> str:
    """Return an output's *value* as Fn::Sub writes it."""
    ((function, said),) = value.items()
    return said if function == "Fn::Sub" else f"${{{said}}}"


def test_settings_stay_what_somebody_chose(deployed: Command, tmp_path: Path) -> None:
    """They are the stack's: its machine and the file have them, and later changes keep them."""
    wrong = deployed("deploy", "--settings", "FRUITS_WORKER=4", answer="deploy")
    first = deployed("deploy", "--settings", "FRUITS_WORKERS=4 FRUITS_K=64", answer="deploy")

    later = deployed("deploy", "--endpoints", "all", answer="deploy")

    assert (wrong[0], "FRUITS_WORKER" in wrong[1]) == (1, True)
    assert (first[0], later[0]) == (0, 0), first[1] + later[1]
    lines = (tmp_path / "aws.env").read_text().splitlines()
    assert lines[-2:] == ["FRUITS_WORKERS=4", "FRUITS_K=64"]
    assert Stack("fruits", REGION).parameters()["MoreSettings"] == "FRUITS_WORKERS=4 FRUITS_K=64"
    deployed("deploy", "--settings", "", answer="deploy")
    assert "FRUITS_WORKERS" not in (tmp_path / "aws.env").read_text()


def test_settings_that_the_stack_must_know_are_its_options(command: Command) -> None:
    """The buckets forget after the days that Airflow goes by: there is one place to give them."""
    code, said = command("deploy", "--settings", "FRUITS_RETENTION_DAYS=90", answer="deploy")

    assert (code, "give --retention-days" in said) == (1, True)
    assert Stack("fruits", REGION).status() is None


@pytest.mark.parametrize(
    "foreign", ["FRUITS_IMAGES_URI=s3://photos-we-have/", "FRUITS_LAKE_URI=s3://a-lake"]
)
def test_settings_that_no_role_reaches_are_refused(command: Command, foreign: str) -> None:
    """A bucket that somebody has is read by nobody but the administrator who types."""
    code, said = command("deploy", "--settings", foreign, answer="deploy")

    assert (code, "its roles reach nothing else" in said) == (1, True)
    assert Stack("fruits", REGION).status() is None


def test_images_may_be_a_prefix_of_their_bucket(deployed: Command, tmp_path: Path) -> None:
    """The stack's roles reach all of it."""
    prefix = f"FRUITS_IMAGES_URI=s3://{IMAGES}/2026/"

    code, said = deployed("deploy", "--settings", prefix, answer="deploy")

    assert code == 0, said
    assert prefix in (tmp_path / "aws.env").read_text().splitlines()


@pytest.mark.parametrize("settings", [None, "", "FRUITS_WORKERS=4"])
@pytest.mark.parametrize("region", EU_REGIONS)
def test_every_region_has_types_with_a_price(region: str, settings: str | None) -> None:
    """Where the default ones have none (Spain), others stand before whatever somebody gives."""
    deployed = settings_of(settings, region)

    assert load_settings(region=region, **deployed).region == region
    assert ("worker_instance_type" in deployed) == (region == "eu-south-2")
    assert ("workers" in deployed) == bool(settings)


def settings_of(given: str | None, region: str) -> dict[str, str]:
    """Return the settings, by field, that a new stack with those *given* has."""
    options = argparse.Namespace(settings=given, region=region)
    named = settings_in(commands._settings(options, None)["MoreSettings"])
    return {name.removeprefix("FRUITS_").lower(): value for name, value in named.items()}


def test_a_type_that_somebody_chose_stays() -> None:
    """An older one stands in for a default alone."""
    deployed = settings_of("FRUITS_WORKER_INSTANCE_TYPE=m5.2xlarge", "eu-south-2")

    assert deployed["worker_instance_type"] == "m5.2xlarge"
    assert deployed["primary_instance_type"] == "m5.xlarge"


def test_settings_are_checked_as_the_stack_will_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell that read docker/aws.env has settings which the machine will not have."""
    monkeypatch.setenv("FRUITS_CAP_MINUTES", "600")
    monkeypatch.setenv("FRUITS_WORKER", "4")  # misspelt, and no matter of the stack's

    assert settings_of("FRUITS_WORKERS=4", REGION)
    with pytest.raises(SettingsError, match=r"FRUITS_CAP_MINUTES \(120\)"):
        settings_of("FRUITS_IDLE_MINUTES=120", REGION)


def test_a_change_is_shown_before_it_is_made(deployed: Command) -> None:
    """More endpoints cost more each month: the new sum is there before the question."""
    code, told = deployed("deploy", "--endpoints", "all", answer="deploy")

    ec2 = boto3.client("ec2", REGION)
    assert code == 0, told
    assert "GlueEndpoint" in told
    assert len(ec2.describe_vpc_endpoints()["VpcEndpoints"]) == 4


def test_airflow_comes_third(deployed: Command) -> None:
    """The machine runs published code; before that, the command says which comes first."""
    early = deployed("deploy", "--airflow", "yes", answer="deploy")
    key = publish_code(f"s3://{LAKE}")

    code, told = deployed("deploy", "--airflow", "yes", answer="deploy")

    assert early[0] == 1
    assert "make aws-publish" in early[1]
    assert code == 0, told
    assert "start-session" in told
    described = boto3.client("cloudformation", REGION).describe_stacks(StackName="fruits")
    parameters = {
        p["ParameterKey"]: p["ParameterValue"] for p in described["Stacks"][0]["Parameters"]
    }
    assert parameters["AirflowCode"] == key


def test_the_roles_of_services_are_made_once(deployed: Command) -> None:
    """EMR and EC2 need theirs, which a run may not make; another deployment finds them there."""
    roles = boto3.client("iam").list_roles(PathPrefix="/aws-service-role/")["Roles"]

    again = deployed("deploy", answer="deploy")

    assert again[0] == 0, again[1]
    assert {role["Path"].split("/")[2] for role in roles} == set(SERVICES)
    assert boto3.client("iam").list_roles(PathPrefix="/aws-service-role/")["Roles"] == roles


def test_showing_needs_no_account(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it would be made of and cost is known without credentials."""
    monkeypatch.setattr(boto3, "client", lambda *_, **__: pytest.fail("an account was asked"))

    assert main(["show", "--airflow", "yes"]) == 0

    told = capsys.readouterr().out
    assert "AirflowProfile" in told
    assert "at the most" in told


def test_no_account_is_told_as_such(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who has no credentials is told how to get some, and where that is written."""
    forget_credentials(monkeypatch, tmp_path / "none")

    code, told = command("deploy", "--mail", "me@example.org")

    assert code == 1
    assert "AWS_PROFILE" in told


@pytest.mark.parametrize("region", ["eu-west-2", "us-east-1"])
def test_regions_outside_the_eu_are_refused(region: str) -> None:
    """Before anything is asked of AWS."""
    with pytest.raises(SystemExit):
        main(["deploy", "--region", region])


@pytest.mark.parametrize(
    ("parameters", "costing"),
    [
        ({}, {"Key", "KmsEndpoint"}),
        ({"Endpoints": "all"}, {"Key", "KmsEndpoint", "StsEndpoint", "GlueEndpoint"}),
        ({"AirflowCode": "code/1.tar.gz"}, {"Key", "KmsEndpoint", "Airflow"}),
    ],
)
def test_everything_that_stands_has_a_price(parameters: dict[str, str], costing: set[str]) -> None:
    """A kind of resource that nobody priced fails here, not on the bill."""
    costs = idle_costs(made_resources(parameters, REGION))

    assert {cost.resource for cost in costs} == costing
    assert all(cost.monthly > 0 for cost in costs)


def test_every_type_of_machine_has_a_price() -> None:
    """What the stack lets somebody choose, the command can tell the cost of; others it refuses."""
    allowed = CONTENT["Parameters"]["AirflowInstanceType"]["AllowedValues"]

    assert set(allowed) == set(INSTANCE_HOURS)
    for name in allowed:
        assert main(["show", "--airflow", "yes", "--airflow-type", name]) == 0
    with pytest.raises(SystemExit):
        main(["show", "--airflow", "yes", "--airflow-type", "m5.large"])


def test_the_page_names_the_same_costs() -> None:
    """docs/aws.md says what the commands say, before anybody has run them."""
    page = (TEMPLATE.parents[2] / "docs" / "aws.md").read_text()
    without = sum(cost.monthly for cost in idle_costs(made_resources({}, REGION)))
    machine = made_resources({"AirflowCode": "code/1.tar.gz"}, REGION)
    more = sum(cost.monthly for cost in idle_costs(machine)) - without

    assert f"| {without:.2f} a month:" in page
    assert f"{more:.2f} a month on a machine of the stack" in page


@pytest.mark.parametrize("region", EU_REGIONS)
def test_regions_without_budgets_are_told(region: str, capsys: pytest.CaptureFixture[str]) -> None:
    """CloudFormation knows budgets in three of the regions; the template and the command agree."""
    main(["show", "--region", region])

    has_one = region in ("eu-central-1", "eu-west-1", "eu-west-3")
    assert ("Budget" in made_resources({}, region)) == has_one
    assert ("no budgets" in capsys.readouterr().out) == (not has_one)
