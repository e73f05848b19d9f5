"""The guard of requests to addresses of others: what is asked, what is refused, and where a connection really goes."""

import asyncio
import datetime as dt
import socket
import ssl

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import marketplace.outgoing as guard
from marketplace.domain.destinations import Reach
from marketplace.outgoing import DestinationRefused, Outgoing, check_url


class ScriptedNames(AbstractResolver):
    """A name server that answers each question about a name with the next of its answers, the last one for ever."""

    def __init__(self, **names: list[list[str]]) -> None:
        self.names = {name.replace("_", "."): list(answers) for name, answers in names.items()}
        self.asked: list[str] = []

    async def resolve(self, host, port=0, family=socket.AF_INET):
        self.asked.append(host)
        if host not in self.names:
            raise OSError(socket.EAI_NONAME, "no such name")
        answers = self.names[host]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            {"hostname": host, "host": address, "port": port, "proto": 0, "flags": socket.AI_NUMERICHOST,
             "family": socket.AF_INET6 if ":" in address else socket.AF_INET}
            for address in found
        ]  # fmt: skip

    async def close(self):
        pass


@pytest.fixture
async def receiver():
    """A server on loopback that keeps what it was asked, and redirects where `to` says."""
    seen = []

    async def answer(request):
        seen.append((request.method, request.path, dict(request.headers), await request.read()))
        if "to" in request.query:
            return web.Response(status=302, headers={"Location": request.query["to"]})
        return web.Response(body=b"hello", headers={"Set-Cookie": "a=b"})

    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1], seen
    await runner.cleanup()


async def ask(outgoing, url, **more):
    async with outgoing.request("GET", url, **more) as response:
        return response.status, await response.read()


@pytest.mark.parametrize(
    "url",
    [
        "", "hooks.test/x", "//hooks.test/x", "https:///x", "http://hooks.test/", "ftp://hooks.test/", "file:///etc/passwd",
        "gopher://hooks.test/", "https://user@hooks.test/", "https://u:p@hooks.test/", "https://hooks.test/ x",
        "https://hooks.test/\nHost: a", "https://hooks.test:99999/", "https://" + "a" * 2048,
        "https://127.0.0.1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/",
        "https://2130706433/", "https://127.1/", "https://017700000001/", "https://169.254.169.254/latest/meta-data/",
        "https://[fd00:ec2::254]/", "https://[64:ff9b::a9fe:a9fe]/", "https://[fe80::1%25eth0]/", "https://10.1.2.3/",
        "https://0.0.0.0/", "https://127。0。0。1/", "http://127.0.0.1/", "http://localhost/",
        "https://a..b/", "https://xn--a.test/", "https://" + "a" * 64 + ".test/",
    ],
)  # fmt: skip
def test_a_url_that_may_not_be_asked_is_refused_before_any_connection(url):
    with pytest.raises(DestinationRefused):
        check_url(url, Reach.PUBLIC)


def test_loopback_is_asked_only_where_the_setting_and_the_url_say_so():
    for url in ("http://127.0.0.1:8080/x", "http://localhost/x", "http://[::1]/x", "https://127.0.0.1/x"):
        check_url(url, Reach.LOOPBACK_TOO)
    for url in ("http://hooks.test/", "http://8.8.8.8/", "https://10.0.0.1/", "http://169.254.169.254/"):
        with pytest.raises(DestinationRefused):
            check_url(url, Reach.LOOPBACK_TOO)


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["10.0.0.8"], ["169.254.169.254"], ["64:ff9b::7f00:1"],
     ["8.8.8.8", "127.0.0.1"], ["2606:4700::1", "fd00::1"], ["0.0.0.0"], ["fe80::1%lo"]],
)  # fmt: skip
@pytest.mark.parametrize("reach", list(Reach))
async def test_a_name_with_one_address_that_is_not_public_is_refused(addresses, reach):
    outgoing = Outgoing(reach, resolver=ScriptedNames(hooks_test=[addresses]))
    with pytest.raises(DestinationRefused):
        await ask(outgoing, "https://hooks.test/x")
    await outgoing.close()


@pytest.mark.parametrize("host", ["0x7f000001", "0x7f.1", "0177.0.0.0x1", "0xA9FEA9FE", "0x0", "0xa.0x0.0x0.0x1"])
@pytest.mark.parametrize("reach", list(Reach))
async def test_a_name_that_the_system_reads_as_an_inner_address_is_refused(host, reach):
    """Hexadecimal and octal parts are names to us and addresses to the system's resolver."""
    outgoing = Outgoing(reach)
    with pytest.raises(DestinationRefused):
        await ask(outgoing, f"https://{host}/x")
    await outgoing.close()


async def test_localhost_that_is_elsewhere_is_refused():
    outgoing = Outgoing(Reach.LOOPBACK_TOO, resolver=ScriptedNames(localhost=[["8.8.8.8"]]))
    with pytest.raises(DestinationRefused):
        await ask(outgoing, "http://localhost/x")
    await outgoing.close()


async def test_a_connection_goes_to_the_address_that_was_checked_and_the_name_is_asked_once(receiver):
    """A name that turns into something else right after the check (rebinding) changes nothing for the connection."""
    port, seen = receiver
    names = ScriptedNames(localhost=[["127.0.0.1"], ["10.0.0.1"]])
    outgoing = Outgoing(Reach.LOOPBACK_TOO, resolver=names)
    assert await ask(outgoing, f"http://localhost:{port}/x") == (200, b"hello")
    assert names.asked == ["localhost"]
    assert [path for _, path, _, _ in seen] == ["/x"]
    await outgoing.close()
    again = Outgoing(Reach.LOOPBACK_TOO, resolver=names)
    with pytest.raises(DestinationRefused):
        await ask(again, f"http://localhost:{port}/y")
    assert len(seen) == 1
    await again.close()


async def test_a_redirect_is_an_answer_and_not_followed(receiver):
    port, seen = receiver
    outgoing = Outgoing(Reach.LOOPBACK_TOO)
    status, _ = await ask(outgoing, f"http://127.0.0.1:{port}/a?to=/b")
    assert status == 302
    assert [path for _, path, _, _ in seen] == ["/a"]
    await outgoing.close()


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/", "https://10.0.0.1/", "https://inner.test/", "http://hooks.test/", "https://a..b/",
        "https://xn--a.test/",
    ],
)  # fmt: skip
async def test_each_hop_of_a_followed_redirect_is_checked_again(receiver, target):
    port, seen = receiver
    names = ScriptedNames(inner_test=[["10.9.9.9"]], hooks_test=[["8.8.8.8"]])
    outgoing = Outgoing(Reach.LOOPBACK_TOO, resolver=names)
    with pytest.raises(DestinationRefused):
        await ask(outgoing, f"http://127.0.0.1:{port}/a?to={target}", hops=3)
    assert len(seen) == 1
    await outgoing.close()


async def test_redirects_are_followed_as_far_as_was_said(receiver):
    port, _ = receiver
    outgoing = Outgoing(Reach.LOOPBACK_TOO)
    assert await ask(outgoing, f"http://127.0.0.1:{port}/a?to=/b", hops=1) == (200, b"hello")
    with pytest.raises(aiohttp.TooManyRedirects):
        await ask(outgoing, f"http://127.0.0.1:{port}/a?to=/a%3Fto=/b", hops=1)
    await outgoing.close()


async def test_nothing_of_the_environment_or_of_earlier_answers_goes_along(receiver, monkeypatch):
    port, seen = receiver
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    outgoing = Outgoing(Reach.LOOPBACK_TOO)
    for _ in range(2):
        assert (await ask(outgoing, f"http://127.0.0.1:{port}/a"))[0] == 200
    for _, _, headers, _ in seen:
        assert "Cookie" not in headers
        assert headers["Accept-Encoding"] == "identity"
    await outgoing.close()


async def test_the_socket_itself_is_refused_where_the_checks_above_were_passed_by():
    """The last line: even a resolver that lies to the check gets no socket to an address that is not public."""
    outgoing = Outgoing(Reach.PUBLIC)
    outgoing._opened().connector._resolver = ScriptedNames(hooks_test=[["127.0.0.1"]])
    with pytest.raises(aiohttp.ClientConnectorError) as refused:
        await ask(outgoing, "https://hooks.test/")
    assert isinstance(refused.value.os_error, PermissionError)
    await outgoing.close()


async def test_a_certificate_is_checked_against_the_name_and_not_the_address(tmp_path, monkeypatch):
    """Behind a name that counts as public stands a TLS server; the pinned connection still proves the name."""
    trusted, files = certificate(tmp_path, "hooks.test")

    async def answer(_request):
        return web.Response(body=b"hello")

    application = web.Application()
    application.router.add_get("/x", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(*files)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=serving).start()
    port = runner.addresses[0][1]
    # Nothing on this machine is public: for this test 127.0.0.1 is.
    monkeypatch.setattr(guard, "refusal_of", lambda address: None if address == "127.0.0.1" else 1 / 0)
    names = ScriptedNames(hooks_test=[["127.0.0.1"]], other_test=[["127.0.0.1"]])
    outgoing = Outgoing(Reach.PUBLIC, resolver=names, trust=trusted)
    assert await ask(outgoing, f"https://hooks.test:{port}/x") == (200, b"hello")
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await ask(outgoing, f"https://other.test:{port}/x")
    await outgoing.close()
    await runner.cleanup()


async def test_the_systems_resolver_answers_for_localhost(receiver):
    port, _ = receiver
    outgoing = Outgoing(Reach.LOOPBACK_TOO)
    async with asyncio.timeout(20):
        assert await ask(outgoing, f"http://localhost:{port}/x") == (200, b"hello")
    await outgoing.close()


def certificate(folder, name):
    """A self-signed certificate for `name`: a client context that trusts it, and its files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, secret = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return ssl.create_default_context(cafile=str(chain)), (chain, secret)
