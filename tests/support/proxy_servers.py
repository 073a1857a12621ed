"""nginx, HAProxy and Caddy with the shipped configurations, in front of frontends on this machine.

A configuration is changed in what is of the machine: ports, addresses of frontends, paths. Text that is to be replaced
has to occur exactly once, so a test never runs with another configuration than it means to.
"""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from support.api import eventually
from tailrace_cli.children import die_with_parent
from tailrace_cli.embedded import free_port

DEPLOY = Path(__file__).parents[2] / "services" / "deploy"
CONFIGURATIONS = {
    "nginx": DEPLOY / "nginx.conf",
    "haproxy": DEPLOY / "proxies" / "haproxy.cfg",
    "caddy": DEPLOY / "proxies" / "Caddyfile",
}
KINDS = tuple(CONFIGURATIONS)
STOP_S = 5.0

Changes = Mapping[str, str]


class Certificate(NamedTuple):
    """A self-signed certificate of this machine and its key; `both`: in one file."""

    certificate: Path
    key: Path
    both: Path


class ProxyServer:
    """A running proxy. It serves the same over TLS and without."""

    def __init__(self, kind: str, port: int, tls_port: int, folder: Path, certificate: Certificate) -> None:
        self.kind = kind
        self.port = port
        self.tls_port = tls_port
        self.folder = folder
        self.certificate = certificate
        self.process: asyncio.subprocess.Process | None = None

    @property
    def plain_url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def url(self) -> str:
        return f"https://localhost:{self.tls_port}"

    @property
    def output(self) -> str:
        """All that it has logged."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    @property
    def pids(self) -> list[int]:
        """Its process, and the children of that."""
        assert self.process is not None
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    async def listens(self) -> bool:
        assert self.process is not None
        assert self.process.returncode is None, self.output
        for port in (self.port, self.tls_port):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return False
            writer.close()
        return True

    async def stop(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()
            try:
                async with asyncio.timeout(STOP_S):
                    await self.process.wait()
            except TimeoutError:  # it waits for its streams
                self.process.kill()
                await self.process.wait()


def installed(kind: str) -> str:
    """The path of a proxy's binary; skips the test where there is none."""
    if (path := shutil.which(kind, path=os.environ["PATH"] + ":/usr/sbin")) is None:
        pytest.skip(f"{kind} is not installed")
    return path


def make_certificate(folder: Path) -> Certificate:
    """A self-signed certificate for localhost, which `SSL_CERT_FILE` can name as an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    shown = built.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    made = Certificate(folder / "certificate.pem", folder / "key.pem", folder / "tls.pem")
    for path, data in zip(made, (shown, secret, shown + secret), strict=True):
        path.write_bytes(data)
    return made


def replaced(text: str, changes: Changes) -> str:
    """The text with each of these pieces, which occur once, replaced."""
    for before, after in changes.items():
        assert text.count(before) == 1, f"{text.count(before)} times: {before!r}"
        text = text.replace(before, after)
    return text


@contextlib.asynccontextmanager
async def proxy_server(
    kind: str, folder: Path, frontends: Sequence[int], changes: Changes | None = None,
    tls_changes: Changes | None = None,
) -> AsyncIterator[ProxyServer]:  # fmt: skip
    """A proxy in front of frontends at these ports, with the shipped configuration and these changes to it, until the
    end of the block. `folder`: an empty one. `tls_changes`: to nginx-tls.conf."""
    path = installed(kind)
    server = ProxyServer(kind, free_port(), free_port(), folder, make_certificate(folder))
    text = replaced(CONFIGURATIONS[kind].read_text(), changes or {})
    configuration = folder / "configuration"
    if kind == "nginx":
        _write_nginx_tls(server, tls_changes or {})
    configuration.write_text(WRITERS[kind](text, server, frontends))
    with (folder / "output.log").open("ab") as output:
        server.process = await asyncio.create_subprocess_exec(
            path, *COMMANDS[kind](configuration, folder), stdout=output, stderr=output, preexec_fn=die_with_parent,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_DATA_HOME": str(folder)},
        )  # fmt: skip
    try:
        await eventually(server.listens)
        yield server
    finally:
        await server.stop()


def _write_nginx_tls(server: ProxyServer, changes: Changes) -> None:
    tls = replaced(
        replaced((DEPLOY / "proxies" / "nginx-tls.conf").read_text(), changes),
        {
            "listen 443": f"listen 127.0.0.1:{server.tls_port}",
            "/etc/nginx/tls/fullchain.pem": str(server.certificate.certificate),
            "/etc/nginx/tls/privkey.pem": str(server.certificate.key),
        },
    )
    (server.folder / "nginx.d").mkdir()
    (server.folder / "nginx.d" / "tls.conf").write_text(tls)


def _nginx(text: str, server: ProxyServer, frontends: Sequence[int]) -> str:
    temporary = " ".join(
        f"{name}_temp_path {server.folder}/temporary;" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    servers = " ".join(f"server 127.0.0.1:{port} max_fails=0;" for port in frontends)
    changed = replaced(
        text,
        {
            "http {": f"http {{ {temporary} upstream frontends {{ {servers} }}",
            "listen 80;": f"listen 127.0.0.1:{server.port};",
            "/etc/nginx/tailrace.d/": f"{server.folder}/nginx.d/",
            "http://frontend:8080": "http://frontends",
            "/dev/stderr": f"{server.folder}/error.log",
        },
    )
    return f"daemon off; pid {server.folder}/pid;\n{changed}"


def _haproxy(text: str, server: ProxyServer, frontends: Sequence[int]) -> str:
    servers = [f"    server frontend{number} 127.0.0.1:{port}" for number, port in enumerate(frontends)]
    template = next(line for line in text.splitlines() if line.lstrip().startswith("server-template "))
    return replaced(
        text.replace("abns@tailrace-posts", f"abns@tailrace-posts-{server.port}"),
        {
            "bind :80\n": f"bind 127.0.0.1:{server.port}\n",
            "bind :443 ": f"bind 127.0.0.1:{server.tls_port} ",
            "/usr/local/etc/haproxy/tls.pem": str(server.certificate.both),
            template: "\n".join(servers),
            "check port 9090 ": "check ",
        },
    )


def _caddy(text: str, server: ProxyServer, frontends: Sequence[int]) -> str:
    addresses = " ".join(f"127.0.0.1:{port}" for port in frontends)
    tls = f"tls {server.certificate.certificate} {server.certificate.key}"
    plain, secured = f"http://localhost:{server.port} {{", f"https://localhost:{server.tls_port} {{\n\t{tls}"
    site = "\tbind 127.0.0.1\n\timport frontends\n}\n"
    return replaced(
        text,
        {
            "admin off\n": "admin off\n\tauto_https disable_redirects\n",
            "{$DOMAIN:localhost} {\n\timport frontends\n}\n": f"{plain}\n{site}\n{secured}\n{site}",
            "{$FRONTEND_ADDRESSES:tailrace-frontend-1:8080 tailrace-frontend-2:8080}": addresses,
            "\t\thealth_port 9090\n": "",
        },
    )


WRITERS: Mapping[str, Callable[[str, ProxyServer, Sequence[int]], str]] = {
    "nginx": _nginx, "haproxy": _haproxy, "caddy": _caddy,
}  # fmt: skip
COMMANDS: Mapping[str, Callable[[Path, Path], Sequence[str]]] = {
    "nginx": lambda path, folder: ("-p", str(folder), "-e", str(folder / "start.log"), "-c", str(path)),
    "haproxy": lambda path, _: ("-db", "-f", str(path)),
    "caddy": lambda path, _: ("run", "--adapter", "caddyfile", "--config", str(path)),
}
