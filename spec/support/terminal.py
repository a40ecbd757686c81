# SPDX-License-Identifier: MIT
#
# A program at a terminal of its own: terminal.py STEPS PROGRAM [ARGUMENT...]
#
# STEPS is a file of lines "send TEXT" and "expect TEXT", both with Python's escapes. Each expect must come within 30 s
# of output that no expect before it has used. "press KEY TEXT" sends KEY each half second until TEXT comes: a terminal's
# signals are lost while one like them is pending. Prints all output at the end; exit status: the program's, or 99 when
# a text did not come (which is printed last).
import os
import pty
import select
import sys
import time

PATIENCE_S = 30
PRESS_S = 0.5


def unescape(text):
    return text.encode().decode('unicode_escape').encode()


def main():
    with open(sys.argv[1], encoding='utf-8') as steps_file:
        steps = [line.rstrip('\n').split(' ', 1) for line in steps_file if line.strip()]
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(sys.argv[2], sys.argv[2:])
    output, used = b'', 0

    def read_some(deadline):
        nonlocal output
        ready, _, _ = select.select([fd], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            more = os.read(fd, 65536)
        except OSError:  # the program has ended
            return False
        output += more
        return bool(more)

    missing = None
    for verb, text in steps:
        key = b''
        if verb == 'press':
            key, text = text.split(' ', 1)
            key = unescape(key)
        wanted = unescape(text)
        if verb == 'send':
            os.write(fd, wanted)
            continue
        deadline = time.monotonic() + PATIENCE_S
        again = 0
        while output.find(wanted, used) < 0 and time.monotonic() < deadline:
            if key and time.monotonic() >= again:
                os.write(fd, key)
                again = time.monotonic() + PRESS_S
            if not read_some(again if key else deadline) and not key:
                break
        at = output.find(wanted, used)
        if at < 0:
            missing = text
            break
        used = at + len(wanted)
    while missing is None and read_some(time.monotonic() + PATIENCE_S):
        pass
    os.close(fd)
    sys.stdout.write(output.decode('utf-8', 'replace'))
    if missing is not None:
        print('\nmissing:', missing)
        os.kill(pid, 9)
    _, status = os.waitpid(pid, 0)
    sys.exit(99 if missing is not None else os.waitstatus_to_exitcode(status))


main()
