"""Sign-In-With-Solana: the text a wallet signs to log in. Source: api.md section 4.2, stack.md section 11.

The text is built from typed fields and compared byte by byte; it is never parsed to decide anything.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SignInInput:
    """Fields of one challenge; the camelCase names of the standard are given by `as_input`."""

    domain: str
    address: str
    statement: str
    uri: str
    chain_id: str
    nonce: str
    issued_at: str
    expiration_time: str
    version: str = "1"

    def message(self) -> str:
        """The text to sign: lines joined by LF, no trailing LF."""
        return "\n".join(
            (
                f"{self.domain} wants you to sign in with your Solana account:",
                self.address,
                "",
                self.statement,
                "",
                f"URI: {self.uri}",
                f"Version: {self.version}",
                f"Chain ID: {self.chain_id}",
                f"Nonce: {self.nonce}",
                f"Issued At: {self.issued_at}",
                f"Expiration Time: {self.expiration_time}",
            )
        )

    def as_input(self) -> dict[str, str]:
        """The same fields under the names of a wallet's `signIn` feature."""
        return {
            "domain": self.domain,
            "address": self.address,
            "statement": self.statement,
            "uri": self.uri,
            "version": self.version,
            "chainId": self.chain_id,
            "nonce": self.nonce,
            "issuedAt": self.issued_at,
            "expirationTime": self.expiration_time,
        }
