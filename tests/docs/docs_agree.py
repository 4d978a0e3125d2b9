#!/usr/bin/env python3
"""docs_agree.py PUZZLEFS: the manual page, the completion and the README name the subcommands and
options that `puzzlefs --help` and `puzzlefs SUBCOMMAND --help` name, all of them and no others.
A group as `puzzlefs cache` counts by its own subcommands: "cache info", "cache ls" and so on.
"""
import os
import re
import subprocess
import sys

PROJECT = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
MANUAL = "doc/man/puzzlefs.1"
COMPLETION = "doc/completions/puzzlefs.bash"
README = "README.md"
OPTION = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")


def read(path):
    with open(os.path.join(PROJECT, path), encoding="utf-8") as file:
        return file.read()


def help_of(command):
    return subprocess.run([*command, "--help"], check=True, capture_output=True, text=True).stdout


def options_of_help(command):
    """The options that start the lines of a help text."""
    options = set()
    for line in help_of(command).splitlines():
        match = re.match(r"\s+(-\S+)", line)
        if match:
            options.update(OPTION.findall(match.group(1)))
    return options


def subcommands_of_help(command):
    """The subcommands that a help text lists; none if the command is no group."""
    listed = re.search(r"^Subcommands:\n((?:  .*\n)+)", help_of(command), re.MULTILINE)
    return set(re.findall(r"^  ([a-z-]+)", listed.group(1), re.MULTILINE)) if listed else set()


def options_of_manual():
    """Section name → the options that it lists."""
    sections, name = {}, None
    for line in read(MANUAL).splitlines():
        heading = re.match(r"\.S[hs] (.*)", line)
        if heading:
            name = heading.group(1)
            if name.islower():  # a subcommand, which may have no options
                sections[name] = set()
        elif line.startswith(".It Fl"):
            flags = re.findall(r"Fl (\S+)", line)
            sections.setdefault(name, set()).update("-" + flag for flag in flags)
    return sections


def completions(*words):
    """What the completion offers after these words."""
    script = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _puzzlefs; ' \
             'printf "%s\\n" "${COMPREPLY[@]}"'
    path = os.path.join(PROJECT, COMPLETION)
    result = subprocess.run(["bash", "-c", script, "bash", path, "puzzlefs", *words], check=True,
                            capture_output=True, text=True)
    return set(result.stdout.split())


def commands_of_readme():
    """The command lines of the README's code blocks that call puzzlefs, without their prompt."""
    for block in re.findall(r"^```\w*\n(.*?)^```", read(README), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            match = re.match(r"(?:sudo )?puzzlefs (.*)", line.split("#")[0])
            if match:
                yield match.group(1).split()


def main():
    puzzlefs = sys.argv[1]
    problems = []

    def compare(where, wanted, found):
        problems.extend(f"{where} lacks {item}" for item in sorted(wanted - found))
        problems.extend(f"{where} has {item}, the command does not" for item in sorted(found - wanted))

    first_words = subcommands_of_help([puzzlefs])
    groups = {word: subcommands_of_help([puzzlefs, word]) for word in first_words}
    groups = {word: members for word, members in groups.items() if members}
    subcommands = first_words - set(groups) | {
        f"{group} {member}" for group, members in groups.items() for member in members}
    general = options_of_help([puzzlefs])
    options = {name: general | options_of_help([puzzlefs, *name.split()]) for name in subcommands}
    manual = options_of_manual()
    common = manual.pop("OPTIONS")
    compare(MANUAL, subcommands, set(manual))
    for words, wanted in [([], first_words)] + [([group], groups[group]) for group in groups]:
        compare(f"{COMPLETION}: the list of subcommands behind {words}", wanted,
                {word for word in completions(*words, "") if not word.startswith("-")})
    for name in subcommands & set(manual):
        compare(f"{MANUAL}: {name}", options[name], manual[name] | common)
        # It offers the long form where there is one.
        long_options = {option for option in options[name] if option.startswith("--")}
        compare(f"{COMPLETION}: {name}", long_options,
                {option for option in completions(*name.split(), "--")})
    used_subcommands = set()
    for subcommand, *arguments in commands_of_readme():
        if subcommand in groups and arguments:
            subcommand = f"{subcommand} {arguments.pop(0)}"
        used_subcommands.add(subcommand)
        if subcommand not in subcommands:
            problems.append(f"{README} has {subcommand}, which is no subcommand")
            continue
        used = {option for argument in arguments for option in OPTION.findall(argument)
                if argument.startswith("-")}
        problems.extend(f"{README}: {subcommand} has no {option}"
                        for option in sorted(used - options[subcommand]))
    problems.extend(f"{README} does not show {name}"
                    for name in sorted(subcommands - used_subcommands))
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
