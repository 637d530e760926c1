"""What each command does, in order: look, say, ask, do."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass

import boto3

from bootstrap.aws.certificates import renew_certificates
from bootstrap.aws.environment_files import (
    environment,
    setting_of,
    settings_in,
    write_environment,
)
from bootstrap.aws.errors import InUseError
from bootstrap.aws.idle_costs import idle_costs
from bootstrap.aws.linked_roles import make_linked_roles
from bootstrap.aws.removal import (
    empty,
    is_empty,
    part_groups,
    refuse_lent_policy,
    refuse_live_clusters,
    remove_endpoints_of_emr,
    running_machine,
    start_machine,
    stop_machine,
)
from bootstrap.aws.stacks import Plan, Stack
from bootstrap.aws.template import TEMPLATE, load_template, made_resources
from fruits.code_archive import newest_code
from fruits.costs import read_prices
from fruits.errors import FruitsError
from fruits.settings import EU_REGIONS, Settings, SettingsError, load_settings
from fruits.terminal import Terminal

# Types that every region has a price of.
OLDER_TYPES = {
    "FRUITS_PRIMARY_INSTANCE_TYPE": "m5.xlarge",
    "FRUITS_WORKER_INSTANCE_TYPE": "c5.2xlarge",
}
# What the stack itself has to know, too: the buckets forget after the same days.
OPTIONS_INSTEAD = {"FRUITS_RETENTION_DAYS": "--retention-days", "FRUITS_REGION": "--region"}
# A prefix that nobody's environment has: what a shell has set is not what the stack gets.
NO_ENVIRONMENT = "NOT_OF_A_STACK_"


class MissingOptionError(FruitsError):
    """A command cannot do without an option; field: option."""

    option: str


@dataclass(frozen=True)
class Answers:
    """Asks before something is spent or deleted; *yes* stands for somebody who has decided."""

    terminal: Terminal
    yes: bool = False

    def confirm(self, word: str) -> bool:
        """Ask for *word*; say whether it was given."""
        if self.yes:
            return True
        self.terminal.console.print(f"  Type [bold]{word}[/bold] to go on: ", end="")
        try:
            if input().strip() == word:
                return True
        except (EOFError, KeyboardInterrupt):  # Ctrl-D, Ctrl-C, or nobody is there to be asked
            self.terminal.console.print()
        self.terminal.say("Nothing was changed.")
        return False


def show(options: argparse.Namespace, terminal: Terminal, _: Answers) -> int:
    """Say what a new stack would be made of and what it costs; ask nobody, touch nothing."""
    parameters = _given(options) | _airflow_code(options, {})
    resources = made_resources(parameters, options.region)
    terminal.say(f"A new stack {options.name} in {_place(options.region)} would be made of:")
    terminal.table(f"{len(resources)} resources", {n: one["Type"] for n, one in resources.items()})
    _tell_costs(terminal, parameters, options.region)
    return 0


def deploy(options: argparse.Namespace, terminal: Terminal, answers: Answers) -> int:
    """Make the stack, or change it, once somebody has seen what and for how much."""
    stack = Stack(options.name, options.region)
    stack.refuse_failed()
    outputs, before = stack.outputs(), stack.parameters()
    parameters = _given(options) | _airflow_code(options, outputs or {})
    parameters |= _settings(options, outputs)
    if outputs is None and "NotificationAddress" not in parameters:
        raise MissingOptionError(
            "A new stack needs an address for the budget's alarm.",
            "make aws-deploy ALARM_MAIL=you@example.org",
            option="mail",
        )
    account = boto3.client("sts", region_name=options.region).get_caller_identity()["Account"]
    terminal.say(f"Account {account}, {_place(options.region)}, stack {options.name}")
    plan = stack.plan(TEMPLATE.read_text(), parameters)
    if plan.changes:
        if not _is_agreed(terminal, answers, stack, plan, before | parameters):
            return 2
        with terminal.stage("CloudFormation is at work"):
            outputs = stack.execute(plan)
    else:
        terminal.say("The stack is as it should be: CloudFormation has nothing to change.")
        stack.drop(plan)
    _finish(options, terminal, stack, outputs or {})
    return 0


def remove(options: argparse.Namespace, terminal: Terminal, answers: Answers) -> int:
    """Remove the stack with the lake; photographs only if that was asked for."""
    stack = Stack(options.name, options.region)
    if stack.status() is None:
        terminal.say(f"There is no stack {options.name} in {_place(options.region)}.")
        return 0
    # After a failure some of it is not there.
    resources = stack.resources()
    refuse_live_clusters(resources.get("ClusterSubnet"), options.region)
    refuse_lent_policy(resources.get("AirflowPolicy"), resources.get("AirflowRole"))
    images, lake = resources.get("ImagesBucket"), resources.get("LakeBucket")
    if images and not options.delete_images and not is_empty(images):
        raise InUseError(
            f"s3://{images} holds photographs, perhaps as old versions of deleted ones.",
            "Copy them elsewhere, then let them be deleted: make aws-remove DELETE_IMAGES=yes.",
            by=(images,),
        )
    terminal.table(f"{len(resources)} resources go", dict.fromkeys(resources, "deleted"))
    if lake:
        terminal.say(f"s3://{lake} goes with everything in it: tables, models, reports, receipts.")
    if images and options.delete_images:
        terminal.say(f"[bold red]s3://{images} goes with all photographs.[/bold red]")
    if not answers.confirm(options.name):
        return 2
    running = running_machine(resources.get("Airflow"), options.region)
    try:
        with terminal.stage("Stop what could begin a cluster"):
            stop_machine(running, options.region)
        # One may have begun until then, and needs the machine that watches it.
        refuse_live_clusters(resources.get("ClusterSubnet"), options.region)
    except BaseException:  # a look that failed, or Ctrl-C: there may be one all the same
        if running:
            terminal.say(
                f"Nothing was removed. Airflow's machine is started again, as does aws ec2 "
                f"start-instances --region {options.region} --instance-ids {running}"
            )
            start_machine(running, options.region)
        raise
    with terminal.stage("Empty the buckets"):
        # Without --delete-images that of the images is empty.
        for bucket in filter(None, (lake, images if options.delete_images else None)):
            empty(bucket)
    with terminal.stage("CloudFormation is at work"):
        remove_endpoints_of_emr(resources.get("Vpc"), options.region)
        part_groups(resources, options.region)
        stack.delete()
    terminal.say("Nothing of it costs anything any more. Its key is deleted after 30 days.")
    return 0


def _given(options: argparse.Namespace) -> dict[str, str]:
    named = {
        "Name": options.name,
        "NotificationAddress": options.mail,
        "MonthCap": options.month_cap,
        "RetentionDays": options.retention_days,
        "Endpoints": options.endpoints,
        "AirflowInstanceType": options.airflow_type,
    }
    return {name: value for name, value in named.items() if value}


def _settings(options: argparse.Namespace, outputs: Mapping[str, str] | None) -> dict[str, str]:
    """Return the parameter with the settings that were given; SettingsError if one is wrong.

    What is returned is what was checked. Where the region's prices lack a default type and nobody
    gave another, an older one stands in front. A stack that is not there yet has no *outputs*.
    """
    if options.settings is None and outputs is not None:
        return {}
    given = settings_in(options.settings or "")
    _refuse_foreign(given, outputs or {})
    if wrong := {name: option for name, option in OPTIONS_INSTEAD.items() if name in given}:
        raise SettingsError(
            f"The stack has an option of its own for {', '.join(wrong)}.",
            f"Leave it out of --settings, and give {', '.join(wrong.values())}.",
            wrong=wrong,
        )
    named = _older_types(options.region) | given
    fields = {_field(name): value for name, value in named.items()}
    load_settings(**{"region": options.region} | fields, _env_prefix=NO_ENVIRONMENT)
    return {"MoreSettings": " ".join(f"{name}={value}" for name, value in named.items())}


def _refuse_foreign(given: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Raise SettingsError if a setting names what is not the stack's: its roles reach nothing else.

    A prefix of its own bucket of images is the stack's.
    """
    made = {setting_of(output) for output in load_template()["Outputs"]}
    foreign = {name: value for name, value in given.items() if name in made}
    images = outputs.get("ImagesUri")
    if images and foreign.get("FRUITS_IMAGES_URI", "").startswith(images):
        del foreign["FRUITS_IMAGES_URI"]
    if foreign:
        raise SettingsError(
            f"The stack makes what is meant by {', '.join(foreign)}: its roles reach nothing else.",
            "Leave it out of --settings, and copy photographs into the stack's bucket. "
            "Once that is there, FRUITS_IMAGES_URI may be a prefix of it.",
            wrong=foreign,
        )


def _older_types(region: str) -> dict[str, str]:
    """Return a type that has a price in *region* for each default that has none."""
    known = read_prices(region).instances
    return {name: older for name, older in OLDER_TYPES.items() if _default(name) not in known}


def _field(setting: str) -> str:
    return setting.removeprefix("FRUITS_").lower()


def _default(setting: str) -> str:
    return str(Settings.model_fields[_field(setting)].default)


def _airflow_code(options: argparse.Namespace, outputs: Mapping[str, str]) -> dict[str, str]:
    """Return the parameter by which the stack has an Airflow machine, or has none."""
    if options.airflow != "yes":
        return {"AirflowCode": ""} if options.airflow == "no" else {}
    if options.command == "show":
        return {"AirflowCode": "code/any.tar.gz"}
    if not outputs:
        raise MissingOptionError(
            "The machine takes its code from the lake, which is not there yet.",
            "First make aws-deploy without AIRFLOW, then make aws-publish, then this.",
            option="airflow",
        )
    return {"AirflowCode": newest_code(outputs["LakeUri"])}


def _is_agreed(
    terminal: Terminal, answers: Answers, stack: Stack, plan: Plan, parameters: Mapping[str, str]
) -> bool:
    """Show the plan and ask; without a yes it is dropped, whatever came between."""
    agreed = False
    try:
        _tell_changes(terminal, plan)
        _tell_costs(terminal, parameters, stack.region)
        agreed = answers.confirm("deploy")
    finally:
        if not agreed:
            stack.drop(plan)
    return agreed


def _tell_changes(terminal: Terminal, plan: Plan) -> None:
    told = {
        change.resource: f"{change.action}{', made anew' if change.replaced else ''}: {change.kind}"
        for change in plan.changes
    }
    terminal.table(f"{len(told)} changes", told)


def _tell_costs(terminal: Terminal, parameters: Mapping[str, str], region: str) -> None:
    default = load_template()["Parameters"]["AirflowInstanceType"]["Default"]
    resources = made_resources(parameters, region)
    costs = idle_costs(resources, parameters.get("AirflowInstanceType", default))
    told = {cost.resource: f"{cost.monthly:6.2f} USD, {cost.reason}" for cost in costs}
    total = sum(cost.monthly for cost in costs)
    terminal.table(
        "A month, while nothing runs", told | {"together": f"{total:6.2f} USD at the most"}
    )
    if "Budget" not in resources:
        terminal.say(
            "CloudFormation makes no budgets in this region: make one by hand, or have no alarm."
        )


def _finish(
    options: argparse.Namespace, terminal: Terminal, stack: Stack, outputs: Mapping[str, str]
) -> None:
    make_linked_roles()
    if renew_certificates(outputs["LakeUri"], options.region):
        terminal.say("Clusters have a new certificate for what their nodes tell each other.")
    variables = environment(outputs, options.region, stack.parameters())
    write_environment(options.environment, variables)
    terminal.say(f"{options.environment} says where everything is. Next: make aws-publish")
    if machine := outputs.get("AirflowInstance"):
        terminal.say(
            f"Airflow, some minutes from now: aws ssm start-session --region {options.region} "
            f"--target {machine} --document-name AWS-StartPortForwardingSession "
            "--parameters portNumber=8080,localPortNumber=8080"
        )


def _place(region: str) -> str:
    return f"{region} ({EU_REGIONS[region]})"
