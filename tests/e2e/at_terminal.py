#!/usr/bin/env python3
"""at_terminal.py ANSWERS COMMAND…: runs a command on a terminal of its own and types answers.

A line of the file ANSWERS is PROMPT<tab>ANSWER: what to wait for, and what to type then, which may be
^C or ^D. Writes what the terminal showed, and "ECHO off" after each prompt at which it would
not show what is typed; at the end "ECHO restored" if it shows that again. Ends as the command does.
"""
import os
import pty
import sys
import termios
import time


KEYS = {"^C": b"\x03", "^D": b"\x04"}


def echoes(fd):
    return bool(termios.tcgetattr(fd)[3] & termios.ECHO)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        answers = [line.rstrip("\n").split("\t") for line in file]
    terminal, other = pty.openpty()
    child = os.fork()
    if child == 0:
        attach(other, terminal)
        os.execvp(sys.argv[2], sys.argv[2:])
    shown = b""
    for prompt, answer in answers:
        deadline = time.monotonic() + 60
        seen = len(shown)
        while prompt.encode() not in shown[seen:]:
            if time.monotonic() > deadline:
                sys.exit(f"no prompt {prompt!r} in {shown!r}")
            shown += os.read(terminal, 4096)
        # The prompt comes before the terminal is ready for the answer, by a moment.
        time.sleep(0.3)
        if not echoes(terminal):
            print("ECHO off")
        os.write(terminal, KEYS.get(answer, answer.encode() + b"\n"))
    _, status = os.waitpid(child, 0)
    if echoes(terminal):
        print("ECHO restored")
    os.set_blocking(terminal, False)
    try:
        shown += os.read(terminal, 65536)
    except BlockingIOError:
        pass
    print(shown.decode(errors="replace").replace("\r", ""))
    sys.exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))


def attach(other, terminal):
    os.close(terminal)
    os.setsid()
    for number in range(3):
        os.dup2(other, number)
    # To open a terminal without having one makes it the controlling one.
    os.close(os.open(os.ttyname(0), os.O_RDWR))


if __name__ == "__main__":
    main()
