"""Paramiko as a client and as a server, commanded by the tests; see control.py."""

import os
import random
import socket
import subprocess
import sys
import threading

import paramiko

from control import TIME, USER, Accounts, answer, decode, failure, members, output, rows, sha256

RSA = {"rsa-sha2-512", "rsa-sha2-256"}


def open_transport(sock, kex="", host_key="", cipher="", mac="", signature="", rekey=""):
    """A connection that has one algorithm only of each kind that is named, and new keys after so many bytes."""
    disabled = {"pubkeys": list(RSA - {signature})} if signature in RSA else {}
    transport = paramiko.Transport(sock, disabled_algorithms=disabled)
    options = transport.get_security_options()
    if kex:
        options.kex = [kex]
    if host_key:
        options.key_types = [host_key]
    if cipher:
        options.ciphers = [cipher]
    if mac:
        options.digests = [mac]
    if rekey:
        transport.packetizer.REKEY_BYTES = int(rekey)
    return transport


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


def send_all(channel, data):
    channel.sendall(data)
    channel.shutdown_write()


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
        connection.close()
    upward()
    channel.close()
    connection.close()


def handle_channel_request(channel, message):
    """Paramiko answers a request when its verdict has returned: what the verdict starts waits for that, or might end before."""
    channel._handle_request(message)
    channel.__dict__.pop("start", lambda: None)()


paramiko.Transport._channel_handler_table[paramiko.common.MSG_CHANNEL_REQUEST] = handle_channel_request


class Server(paramiko.ServerInterface):
    """The verdicts about one connection, and what it has going."""

    def __init__(self, transport, accounts):
        self.transport = transport
        self.accounts = accounts
        self.factors = list(accounts.factors)
        self.key_pending = False
        self.round = 0
        # The transport itself does not keep them.
        self.channels = []
        self.direct = {}
        self.listeners = {}

    # Who may log in.

    def passed(self, method):
        """What a good proof is worth."""
        self.key_pending = False
        if not self.factors:
            return paramiko.AUTH_SUCCESSFUL
        if self.factors[0] != method:
            return paramiko.AUTH_FAILED
        self.factors.pop(0)
        return paramiko.AUTH_PARTIALLY_SUCCESSFUL if self.factors else paramiko.AUTH_SUCCESSFUL

    def get_allowed_auths(self, username):
        # Asked whenever an attempt is answered, so after a proof and not after an offer.
        if self.key_pending:
            self.key_pending = False
            self.factors.pop(0)
        return ",".join(self.factors[:1] or self.accounts.methods)

    def check_auth_none(self, username):
        return self.passed("none") if self.accounts.none else paramiko.AUTH_FAILED

    def check_auth_publickey(self, username, key):
        # An offer proves nothing, and looks like a proof here.
        known = f"{key.get_name()} {key.get_base64()}" in self.accounts.keys
        if not known or (self.factors and self.factors[0] != "publickey"):
            return paramiko.AUTH_FAILED
        self.key_pending = len(self.factors) > 1
        return paramiko.AUTH_PARTIALLY_SUCCESSFUL if self.key_pending else paramiko.AUTH_SUCCESSFUL

    def check_auth_password(self, username, password):
        self.key_pending = False
        right = self.accounts.password and password == self.accounts.password
        return self.passed("password") if right else paramiko.AUTH_FAILED

    def ask(self):
        name, instruction, prompts, _ = self.accounts.rounds[self.round]
        return paramiko.InteractiveQuery(name, instruction, *prompts)

    def check_auth_interactive(self, username, submethods):
        self.key_pending = False
        self.round = 0
        return self.ask() if self.accounts.rounds else paramiko.AUTH_FAILED

    def check_auth_interactive_response(self, responses):
        if list(responses) != self.accounts.rounds[self.round][3]:
            return paramiko.AUTH_FAILED
        self.round += 1
        if self.round < len(self.accounts.rounds):
            return self.ask()
        return self.passed("keyboard-interactive")

    # Channels.

    def check_channel_request(self, kind, chanid):
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel, command):
        channel.start = lambda: in_thread(self.run, channel, command)
        return True

    def run(self, channel, command):
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

        def copy(receive, send, end=lambda: None):
            try:
                while data := receive(65536):
                    send(data)
                end()
            except OSError:
                # One side does not want it any more.
                pass

        def write(data):
            process.stdin.write(data)
            process.stdin.flush()

        in_thread(copy, channel.recv, write, process.stdin.close)
        errors = in_thread(copy, process.stderr.read1, channel.sendall_stderr)
        copy(process.stdout.read1, channel.sendall)
        errors()
        status = process.wait()
        # Paramiko has no way to say that a signal has ended it.
        if status >= 0:
            channel.send_exit_status(status)
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
            self.channels.append(channel)
            connection = self.direct.pop(channel.get_id(), None)
            if connection:
                in_thread(pump, channel, connection)
        for address in list(self.listeners):
            self.cancel_port_forward_request(*address)


class Session:
    """One control connection: a client, or a server with its connections."""

    def __init__(self):
        self.listener = None
        self.transports = []

    @property
    def transport(self):
        return self.transports[-1]

    def close(self):
        if self.listener:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
        for transport in self.transports:
            transport.close()

    def do_rekey(self):
        self.transport.renegotiate_keys()

    def do_negotiated(self):
        return negotiated(self.transport)

    # A client.

    def do_connect(
        self,
        port,
        pinned,
        user=USER,
        methods="none",
        key="",
        password="",
        new_password="",
        answers="",
        **algorithms,
    ):
        sock = socket.create_connection(("127.0.0.1", int(port)), TIME)
        self.transports.append(open_transport(sock, **algorithms))
        self.transport.start_client(timeout=TIME)
        host_key = self.transport.get_remote_server_key()
        if f"{host_key.get_name()} {host_key.get_base64()}" not in members(pinned):
            raise ValueError("another host key")
        round_of_answers = iter(rows(answers))
        attempts = {
            "none": lambda: self.transport.auth_none(user),
            "publickey": lambda: self.transport.auth_publickey(user, paramiko.PKey.from_path(key)),
            "password": lambda: self.transport.auth_password(user, password, fallback=False),
            "keyboard-interactive": lambda: self.transport.auth_interactive(
                user, lambda name, instruction, prompts: next(round_of_answers)
            ),
        }
        # Each attempt gives the methods that must follow it.
        said = []
        for method in members(methods):
            try:
                left = attempts[method]()
            except paramiko.AuthenticationException as error:
                said.append(f"{method}: refused {','.join(getattr(error, 'allowed_types', []))}")
            else:
                said.append(f"{method}: partial {','.join(left)}" if left else f"{method}: success")
        success = self.transport.is_authenticated()
        return {"success": int(success), "said": "\n".join(said), **negotiated(self.transport)}

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
        sent = in_thread(send_all, channel, data)
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
        sent = in_thread(send_all, channel, data)
        errors = in_thread(read_all, channel.recv_stderr)
        stdout = read_all(channel.recv)
        sent()
        # -1 when there was none: Paramiko knows nothing of exit-signal.
        status = channel.recv_exit_status()
        channel.close()
        return output(stdout, errors(), data, status)

    # A server.

    def do_serve(self, host_keys, kex="", host_key="", cipher="", mac="", rekey="", **accounts):
        keys = [paramiko.PKey.from_path(path) for path in members(host_keys)]
        accounts = Accounts(**accounts)
        self.listener = socket.create_server(("127.0.0.1", 0))

        def accept():
            while True:
                try:
                    connection, _ = self.listener.accept()
                except OSError:
                    return
                in_thread(serve, connection)

        def serve(connection):
            transport = open_transport(connection, kex, host_key, cipher, mac, rekey=rekey)
            for key in keys:
                transport.add_server_key(key)
            self.transports.append(transport)
            server = Server(transport, accounts)
            try:
                transport.start_server(server=server)
            except (paramiko.SSHException, EOFError):
                # It was connected to for a look at what it offers.
                return
            server.serve()

        in_thread(accept)
        return {"port": self.listener.getsockname()[1]}


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
