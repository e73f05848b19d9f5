from marketplace.protocol.siws import SignInInput


def test_the_challenge_is_the_published_text():
    challenge = SignInInput(
        domain="api.reavergpu.io",
        address="7xQsWallet",
        statement="Sign in to Reaver. No funds move.",
        uri="https://api.reavergpu.io",
        chain_id="localnet",
        nonce="1" * 22,
        issued_at="2026-02-13T10:00:00Z",
        expiration_time="2026-02-13T10:05:00Z",
    )
    assert challenge.message() == (
        "api.reavergpu.io wants you to sign in with your Solana account:\n"
        "7xQsWallet\n\n"
        "Sign in to Reaver. No funds move.\n\n"
        "URI: https://api.reavergpu.io\n"
        "Version: 1\n"
        "Chain ID: localnet\n"
        f"Nonce: {'1' * 22}\n"
        "Issued At: 2026-02-13T10:00:00Z\n"
        "Expiration Time: 2026-02-13T10:05:00Z"
    )
    assert challenge.as_input()["chainId"] == "localnet"
