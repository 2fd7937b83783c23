"""Paramiko as a client and as a server, commanded by the tests; see control.py."""

import os
import random
import socket
import subprocess
import sys
import threading

import paramiko

from control import TIME, answer, decode, failure, names, output, sha256


def configure(transport, kex="", host_key="", cipher="", mac=""):
    """Leaves one algorithm of each kind that is named."""
    options = transport.get_security_options()
    if kex:
        options.kex = [kex]
    if host_key:
        options.key_types = [host_key]
    if cipher:
        options.ciphers = [cipher]
    if mac:
        options.digests = [mac]


def negotiated(transport):
    """What is in force, as this side sees it."""
    return {
        "version": transport.remote_version,
        "host_key": transport.host_key_type,
        "sends": f"{transport.local_cipher} {transport.local_mac}",
        "receives": f"{transport.remote_cipher} {transport.remote_mac}",
        "strict": transport.agreed_on_strict_kex,
    }


def read_all(receive):
    """Everything until EOF."""
    parts = []
    while part := receive(65536):
        parts.append(part)
    return b"".join(parts)


def in_thread(function, *arguments):
    """Runs beside; the result is a call that waits for what it returned."""
    result = []
    thread = threading.Thread(target=lambda: result.append(function(*arguments)), daemon=True)
    thread.start()

    def wait():
        thread.join(TIME)
        if not result:
            raise RuntimeError(f"{function.__name__} has not ended well")
        return result[0]

    return wait


def pump(channel, connection):
    """Joins a channel and a TCP connection until both directions have ended."""

    def up():
        try:
            while data := connection.recv(65536):
                channel.sendall(data)
            channel.shutdown_write()
        except OSError:
            channel.close()

    upward = in_thread(up)
    try:
        while data := channel.recv(65536):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    try:
        upward()
    except RuntimeError:
        pass
    channel.close()
    connection.close()


class Server(paramiko.ServerInterface):
    """The verdicts about one connection, and what it has going."""

    def __init__(self, transport):
        self.transport = transport
        self.direct = {}
        self.listeners = {}

    def check_auth_none(self, username):
        return paramiko.AUTH_SUCCESSFUL

    def check_channel_request(self, kind, chanid):
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel, command):
        in_thread(self.run, channel, command)
        return True

    def run(self, channel, command):
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

        def copy(receive, send, end):
            try:
                while data := receive(65536):
                    send(data)
            except OSError:
                pass
            finally:
                end()

        def end_input():
            try:
                process.stdin.close()
            except OSError:
                pass

        def write(data):
            process.stdin.write(data)
            process.stdin.flush()

        in_thread(copy, channel.recv, write, end_input)
        errors = in_thread(copy, process.stderr.read1, channel.sendall_stderr, lambda: None)
        copy(process.stdout.read1, channel.sendall, lambda: None)
        errors()
        channel.send_exit_status(process.wait())
        channel.shutdown_write()
        channel.close()

    def check_channel_direct_tcpip_request(self, chanid, origin, destination):
        try:
            self.direct[chanid] = socket.create_connection(destination, TIME)
        except OSError:
            return paramiko.OPEN_FAILED_CONNECT_FAILED
        return paramiko.OPEN_SUCCEEDED

    def check_port_forward_request(self, address, port):
        if address not in ("", "localhost", "127.0.0.1"):
            return False
        try:
            listener = socket.create_server(("127.0.0.1", port))
        except OSError:
            return False
        port = listener.getsockname()[1]
        self.listeners[address, port] = listener
        in_thread(self.listen, listener, address, port)
        return port

    def listen(self, listener, address, port):
        while True:
            try:
                connection, origin = listener.accept()
            except OSError:
                return
            in_thread(self.forward, connection, origin, address, port)

    def forward(self, connection, origin, address, port):
        try:
            channel = self.transport.open_forwarded_tcpip_channel(origin, (address, port))
        except paramiko.SSHException:
            connection.close()
            return
        pump(channel, connection)

    def cancel_port_forward_request(self, address, port):
        listener = self.listeners.pop((address, port), None)
        if listener:
            # A close alone would leave the thread in accept(), and with it the port.
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def serve(self):
        """Gives its channels what they need, until the connection ends."""
        while self.transport.is_active():
            channel = self.transport.accept(1.0)
            if channel is None:
                continue
            connection = self.direct.pop(channel.get_id(), None)
            if connection:
                in_thread(pump, channel, connection)
        for address in list(self.listeners):
            self.cancel_port_forward_request(*address)


class Session:
    """One control connection: a client, or a server with its connections."""

    def __init__(self):
        self.transport = None
        self.listener = None
        self.transports = []

    def close(self):
        if self.listener:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
        for transport in [self.transport, *self.transports]:
            if transport:
                transport.close()

    # A client.

    def do_connect(self, port, pinned, **algorithms):
        """Exchanges keys with the server, whose host key must be the pinned one."""
        self.transport = paramiko.Transport(socket.create_connection(("127.0.0.1", int(port)), TIME))
        configure(self.transport, **algorithms)
        self.transport.start_client(timeout=TIME)
        key = self.transport.get_remote_server_key()
        if f"{key.get_name()} {key.get_base64()}" != pinned:
            raise ValueError("another host key")
        return negotiated(self.transport)

    def do_auth_public_key(self, user, key):
        self.transport.auth_publickey(user, paramiko.PKey.from_path(key))

    def do_direct(self, port, size):
        """Sends bytes through the server to a port that sends them back."""
        try:
            channel = self.transport.open_channel(
                "direct-tcpip", ("127.0.0.1", int(port)), ("127.0.0.1", 7), timeout=TIME
            )
        except paramiko.ChannelException as error:
            return {"refused": error.code}
        channel.settimeout(TIME)
        data = random.randbytes(int(size))

        def send():
            channel.sendall(data)
            channel.shutdown_write()
            return True

        sent = in_thread(send)
        received = read_all(channel.recv)
        sent()
        channel.close()
        return {"sent": sha256(data), "received": sha256(received), "len": len(received)}

    def do_listen(self, address, port, target):
        """Has the server listen, and connects what comes with a port of this machine."""

        def handler(channel, origin, bound):
            in_thread(join, channel)

        def join(channel):
            try:
                connection = socket.create_connection(("127.0.0.1", int(target)), TIME)
            except OSError:
                channel.close()
                return
            pump(channel, connection)

        return {"port": self.transport.request_port_forward(address, int(port), handler)}

    def do_cancel(self, address, port):
        self.transport.cancel_port_forward(address, int(port))

    def do_exec(self, command, size="0"):
        """Runs a command with random bytes on its standard input."""
        channel = self.transport.open_session(timeout=TIME)
        channel.settimeout(TIME)
        channel.exec_command(command)
        data = random.randbytes(int(size))

        def send():
            channel.sendall(data)
            channel.shutdown_write()
            return True

        sent, errors = in_thread(send), in_thread(read_all, channel.recv_stderr)
        stdout = read_all(channel.recv)
        sent()
        status = channel.recv_exit_status()
        channel.close()
        return output(stdout, errors(), data, status=status)

    # A server.

    def do_serve(self, host_keys, **algorithms):
        keys = [paramiko.PKey.from_path(path) for path in names(host_keys)]
        self.listener = socket.create_server(("127.0.0.1", 0))

        def accept():
            while True:
                try:
                    connection, _ = self.listener.accept()
                except OSError:
                    return
                in_thread(serve, connection)

        def serve(connection):
            transport = paramiko.Transport(connection)
            for key in keys:
                transport.add_server_key(key)
            configure(transport, **algorithms)
            self.transports.append(transport)
            server = Server(transport)
            transport.start_server(server=server)
            server.serve()

        in_thread(accept)
        return {"port": self.listener.getsockname()[1]}

    def do_negotiated(self):
        """What the newest connection has agreed on."""
        return negotiated(self.transport or self.transports[-1])


def control(connection):
    session = Session()
    with connection, connection.makefile("rwb") as lines:
        for line in lines:
            command, fields = decode(line)
            try:
                line = answer(getattr(session, "do_" + command)(**fields))
            except Exception as error:  # The tests judge it.
                line = failure(error)
            lines.write(line)
            lines.flush()
    session.close()


def main():
    listener = socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            in_thread(control, listener.accept()[0])

    in_thread(accept)
    print("ready", listener.getsockname()[1], paramiko.__version__, flush=True)
    sys.stdin.read()
    os._exit(0)


main()
