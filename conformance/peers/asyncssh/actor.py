"""asyncssh as a client and as a server, commanded by the tests; see control.py."""

import asyncio
import os
import random
import signal
import sys

import asyncssh

from control import TIME, USER, Accounts, answer, decode, failure, members, output, rows, sha256


def algorithms(kex="", host_key="", cipher="", mac="", signature="", rekey=""):
    """Options of a connection that has one algorithm only of each kind that is named, and new keys after so many bytes."""
    options = {"kex_algs": kex, "encryption_algs": cipher, "mac_algs": mac, "signature_algs": signature}
    options = {name: [value] for name, value in options.items() if value}
    if rekey:
        options["rekey_bytes"] = int(rekey)
    return options, host_key


def negotiated(connection):
    """What is in force, as this side sees it."""
    info = connection.get_extra_info
    version = info("server_version") if isinstance(connection, asyncssh.SSHClientConnection) else info("client_version")
    return {
        "version": version,
        "sends": f"{info('send_cipher')} {info('send_mac')}",
        "receives": f"{info('recv_cipher')} {info('recv_mac')}",
    }


class Client(asyncssh.SSHClient):
    """Answers what the server asks."""

    def __init__(self, password, new_password, answers):
        self.password = password
        self.new_password = new_password
        self.answers = iter(rows(answers))
        self.said = []

    def password_change_requested(self, prompt, lang):
        self.said.append(f"change: {prompt}")
        return self.password, self.new_password

    def kbdint_auth_requested(self):
        return ""

    def kbdint_challenge_received(self, name, instructions, lang, prompts):
        self.said.append(f"asked: {name}, {instructions}, {prompts}")
        return next(self.answers, None)


class Server(asyncssh.SSHServer):
    """The verdicts about one connection."""

    def __init__(self, accounts, connections):
        self.accounts = accounts
        self.connections = connections
        self.round = 0

    def connection_made(self, connection):
        self.connections.append(connection)

    def begin_auth(self, username):
        return not self.accounts.none

    def public_key_auth_supported(self):
        return bool(self.accounts.keys)

    def validate_public_key(self, username, key):
        return key.export_public_key().decode().strip() in self.accounts.keys

    def password_auth_supported(self):
        return bool(self.accounts.password)

    def validate_password(self, username, password):
        if password != self.accounts.password:
            return False
        if self.accounts.new_password:
            raise asyncssh.PasswordChangeRequired("Your password has expired.")
        return True

    def change_password(self, username, old_password, new_password):
        return (old_password, new_password) == (self.accounts.password, self.accounts.new_password)

    def kbdint_auth_supported(self):
        return bool(self.accounts.rounds)

    def ask(self):
        name, instruction, prompts, _ = self.accounts.rounds[self.round]
        return name, instruction, "", prompts

    def get_kbdint_challenge(self, username, lang, submethods):
        self.round = 0
        return self.ask()

    def validate_kbdint_response(self, username, responses):
        if list(responses) != self.accounts.rounds[self.round][3]:
            return False
        self.round += 1
        return self.ask() if self.round < len(self.accounts.rounds) else True

    def connection_requested(self, dest_host, dest_port, orig_host, orig_port):
        return True

    def server_requested(self, listen_host, listen_port):
        return listen_host in ("", "localhost", "127.0.0.1")


async def run(process):
    """A command of the server's, on pipes."""
    child = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        process.command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )

    async def copy(reader, writer, end=lambda: None):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            end()
        except (OSError, asyncssh.Error):
            # One side does not want it any more.
            pass

    into = asyncio.create_task(copy(process.stdin, child.stdin, child.stdin.close))
    await asyncio.gather(copy(child.stdout, process.stdout), copy(child.stderr, process.stderr))
    status = await child.wait()
    into.cancel()
    if status < 0:
        process.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
    else:
        process.exit(status)


class Session:
    """One control connection: a client, or a server with its connections."""

    def __init__(self):
        self.acceptor = None
        self.connections = []
        self.listeners = {}

    @property
    def connection(self):
        return self.connections[-1]

    def close(self):
        if self.acceptor:
            self.acceptor.close()
        for connection in self.connections:
            connection.abort()

    async def do_negotiated(self):
        return negotiated(self.connection)

    # A client.

    async def do_connect(
        self,
        port,
        pinned,
        user=USER,
        methods="none",
        key="",
        password="",
        new_password="",
        answers="",
        **kinds,
    ):
        options, host_key = algorithms(**kinds)
        if host_key:
            options["server_host_key_algs"] = [host_key]
        client = Client(password, new_password, answers)
        try:
            connection = await asyncssh.connect(
                "127.0.0.1",
                int(port),
                config=None,
                known_hosts=([asyncssh.import_public_key(line) for line in members(pinned)], [], []),
                username=user,
                # It always asks for `none` first.
                preferred_auth=[method for method in members(methods) if method != "none"],
                client_keys=[key] if key else None,
                password=password or None,
                agent_path=None,
                client_factory=lambda: client,
                login_timeout=TIME,
                **options,
            )
        except asyncssh.PermissionDenied as error:
            return {"success": 0, "said": "\n".join([*client.said, str(error)])}
        self.connections.append(connection)
        return {"success": 1, "said": "\n".join(client.said), **negotiated(connection)}

    async def do_direct(self, port, size):
        """Sends bytes through the server to a port that sends them back."""
        try:
            reader, writer = await self.connection.open_connection("127.0.0.1", int(port), encoding=None)
        except asyncssh.ChannelOpenError as error:
            return {"refused": error.code}
        data = random.randbytes(int(size))

        async def send():
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        received, _ = await asyncio.gather(reader.read(), send())
        writer.close()
        return {"sent": sha256(data), "received": sha256(received), "len": len(received)}

    async def do_listen(self, address, port, target):
        """Has the server listen, and connects what comes with a port of this machine."""
        listener = await self.connection.forward_remote_port(address, int(port), "127.0.0.1", int(target))
        self.listeners[listener.get_port()] = listener
        return {"port": listener.get_port()}

    async def do_cancel(self, address, port):
        listener = self.listeners.pop(int(port))
        listener.close()
        await listener.wait_closed()

    async def do_exec(self, command, size="0"):
        """Runs a command with random bytes on its standard input."""
        data = random.randbytes(int(size))
        async with self.connection.create_process(command, encoding=None) as process:
            stdout, stderr = await process.communicate(data)
        name = process.exit_signal[0] if process.exit_signal else ""
        return output(stdout, stderr, data, process.exit_status, name)

    # A server.

    async def do_serve(self, host_keys, kex="", cipher="", mac="", rekey="", **accounts):
        options, _ = algorithms(kex, "", cipher, mac, rekey=rekey)
        keys = [asyncssh.read_private_key(path) for path in members(host_keys)]
        accounts = Accounts(**accounts)
        self.acceptor = await asyncssh.listen(
            "127.0.0.1",
            0,
            config=None,
            server_factory=lambda: Server(accounts, self.connections),
            server_host_keys=keys,
            process_factory=run,
            encoding=None,
            login_timeout=TIME,
            **options,
        )
        return {"port": self.acceptor.get_port()}


async def control(reader, writer):
    session = Session()
    while line := await reader.readline():
        command, fields = decode(line)
        try:
            line = answer(await asyncio.wait_for(getattr(session, "do_" + command)(**fields), TIME))
        except Exception as error:  # The tests judge it.
            line = failure(error)
        writer.write(line)
    session.close()
    writer.close()


async def main():
    server = await asyncio.start_server(control, "127.0.0.1", 0, limit=1 << 20)
    print("ready", server.sockets[0].getsockname()[1], asyncssh.__version__, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)


asyncio.run(main())
