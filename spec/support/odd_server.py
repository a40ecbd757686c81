# SPDX-License-Identifier: MIT
#
# An HTTP server that does what the path says, right or wrong. `odd_server.py PORT_FILE [SOCKET]` listens on a free
# loopback port (and on a unix socket), writes the port to PORT_FILE, and ends when it is killed.
import os
import signal
import socket
import sys
import threading

accepted = 0
unsaid = {}
lock = threading.Lock()


def pattern(n):
    return bytes(i * 7 % 251 for i in range(n))


def reply(status, body=b'', headers=()):
    head = ['HTTP/1.1 %d Odd' % status, 'Content-Length: %d' % len(body), *headers]
    return ('\r\n'.join(head) + '\r\n\r\n').encode() + body


def wait_for_close(conn):
    while conn.recv(65536):
        pass


def answer(conn, method, words, head, body):
    """Sends what the path asks for. True: the connection may be used again."""
    what, rest = words[0], words[1:]
    if what == 'ok':
        conn.sendall(reply(200, b'' if method == 'HEAD' else pattern(int(rest[0]))))
    elif what == 'size':
        conn.sendall(('HTTP/1.1 200 Odd\r\nContent-Length: %s\r\n\r\n' % rest[0]).encode())
    elif what == 'echo':
        conn.sendall(reply(200, body, ['X-Method: ' + method, 'X-Twice: a', 'X-Twice: b']))
    elif what == 'head':
        conn.sendall(reply(200, head.encode()))
    elif what == 'accepted':
        conn.sendall(reply(200, str(accepted).encode()))
    elif what == 'status':
        conn.sendall(reply(int(rest[0]), b'why: ' + pattern(int(rest[1]) if len(rest) > 1 else 0)))
    elif what == 'circle':
        conn.sendall(reply(302, b'', ['Location: /circle']))
    elif what == 'redirect':
        conn.sendall(reply(307, b'moved', ['Location: /' + '/'.join(rest)]))
    elif what == 'chunked':
        conn.sendall(b'HTTP/1.1 200 Odd\r\nTransfer-Encoding: chunked\r\n\r\n')
        conn.sendall(b'5\r\n' + pattern(5) + b'\r\n0\r\n\r\n')
    elif what == 'unsaid':  # keeps what is PUT, and never says so
        if method == 'PUT':
            unsaid[rest[0]] = body
            wait_for_close(conn)
            return False
        there = unsaid.pop(rest[0], None) if method == 'DELETE' else unsaid.get(rest[0])
        conn.sendall(reply(404 if there is None else 200))
    elif what == 'once':  # kept alive, the client thinks
        conn.sendall(reply(200, body))
        return False
    else:
        misbehave(conn, what)
        return False
    return True


def misbehave(conn, what):
    if what == 'cut':
        conn.sendall(b'HTTP/1.1 200 Odd\r\nContent-Length: 1000\r\n\r\n' + pattern(10))
    elif what == 'chunk-cut':
        conn.sendall(b'HTTP/1.1 200 Odd\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nabc')
    elif what == 'garbage':
        conn.sendall(b'\x00\x01\x02 this is not HTTP\r\n\r\n')
    elif what == 'bad-length':
        conn.sendall(b'HTTP/1.1 200 Odd\r\nContent-Length: many\r\n\r\nabc')
    elif what == 'endless':
        conn.sendall(b'HTTP/1.1 200 Odd\r\nTransfer-Encoding: chunked\r\n\r\n')
        while True:
            conn.sendall(b'1000\r\n' + bytes(4096) + b'\r\n')
    elif what == 'headers':
        conn.sendall(b'HTTP/1.1 200 Odd\r\n')
        while True:
            conn.sendall(b'X-More: ' + b'x' * 1000 + b'\r\n')
    elif what == 'stall':
        conn.sendall(b'HTTP/1.1 200 Odd\r\nContent-Length: 1000\r\n\r\n' + pattern(10))
        wait_for_close(conn)
    elif what == 'silent':
        wait_for_close(conn)
    # anything else: closes without a word


def read_request(conn, data):
    while b'\r\n\r\n' not in data:
        more = conn.recv(65536)
        if not more:
            return None
        data += more
    head, _, data = data.partition(b'\r\n\r\n')
    length = 0
    for line in head.split(b'\r\n'):
        name, _, value = line.partition(b':')
        if name.lower() == b'content-length':
            length = int(value)
    while len(data) < length:
        more = conn.recv(1 << 20)
        if not more:
            return None
        data += more
    return head.decode(), data[:length], data[length:]


def serve(conn):
    data = b''
    try:
        with conn:
            while True:
                request = read_request(conn, data)
                if not request:
                    return
                head, body, data = request
                method, path = head.split(' ', 2)[:2]
                if not answer(conn, method, path.strip('/').split('/'), head, body):
                    return
    except OSError:
        pass


def listen(server):
    global accepted
    while True:
        conn = server.accept()[0]
        with lock:
            accepted += 1
        threading.Thread(target=serve, args=(conn,), daemon=True).start()


def main():
    server = socket.create_server(('127.0.0.1', 0), backlog=128)
    servers = [server]
    if len(sys.argv) > 2:
        local = socket.socket(socket.AF_UNIX)
        local.bind(sys.argv[2])
        local.listen(128)
        servers.append(local)
    for each in servers:
        threading.Thread(target=listen, args=(each,), daemon=True).start()
    with open(sys.argv[1] + '.new', 'w') as file:
        file.write(str(server.getsockname()[1]))
    os.rename(sys.argv[1] + '.new', sys.argv[1])
    signal.pause()


main()
