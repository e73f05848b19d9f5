"""The wire layouts of the program, written down as `struct` formats: the witness against anchorpy's coders.

All are little endian and without padding, after the eight bytes of the discriminator. `16s` is a 128-bit
number, `32s` a key or a hash. The order is that of the Rust declarations.
"""

INSTRUCTIONS: dict[str, str] = {
    "settle": "I Q q q Q B H 32s B B",
    "assign": "Q Q Q q B",
    "open_escrow": "Q 16s 32s Q Q Q I",
    "release_node": "H Q q q Q B H 32s B B",
    "quit": "Q q q Q B H 32s B B",
    "contest": "Q q q Q B H 32s B B",
    "close_contest": "",
    "reap": "",
    "cancel_escrow": "",
    "open_vault": "",
    "deposit": "Q",
    "withdraw": "Q",
    "claim_compensation": "",
    "grant_allowance": "Q Q Q Q q",
    "revoke_allowance": "",
    "register_node": "Q H",
    "bond": "Q",
    "update_node": "",
    "withdraw_owed": "",
    "register_market": "32s 32s H",
    "initialize": "32s Q I H H H H H H H H H Q Q Q Q Q Q Q Q Q Q Q Q Q Q",
    "set_class": "16s Q ?",
}

ACCOUNTS: dict[str, str] = {
    "Config": ("B B 32s 32s 32s 32s 32s 32s 32s 32s B Q I H H H H H H H H H Q Q Q Q Q Q Q Q Q Q Q Q Q q Q Q Q Q 128s"),
    "Market": "B B 32s 32s 32s H H q 32s B Q Q 64s",
    "Class": "B B 16s Q ? 32s",
    "Node": (
        "B B 32s 32s 32s 16s 32s 32s B Q I Q Q Q Q Q Q Q Q Q Q Q Q Q Q Q Q ? ? Q Q Q Q Q "
        "Q Q Q ? ? Q Q Q Q Q Q Q Q ? ? 96s"
    ),
    "Pool": "B B 32s 32s 32s B B Q 16s 16s Q 16s I 16s 16s 16s 16s Q Q Q Q H H q Q 96s",
    "Position": "B B 32s 32s 16s 16s 16s Q Q Q I ? 32s 32s",
    "Ticket": "B B 32s 32s 32s Q 16s q 32s 32s",
    "Vault": "B B 32s 32s B Q Q Q 128s 64s",
    "Allowance": "B B 32s 32s Q Q Q Q Q Q Q q Q 128s 64s",
    "Escrow": (
        "B B 32s 32s 32s Q 16s 32s Q B Q Q Q Q I q q q Q 32s I 32s Q 32s H H q q Q q q Q "
        "Q Q Q I 32s Q 32s H H q q Q q q Q Q Q Q q H ? ? ? Q 64s"
    ),
    "Epoch": "B B Q B Q Q 16s I I 32s 32s",
}

EVENTS: dict[str, str] = {
    "MarketRegistered": "32s 32s 32s 32s H 32s",
    "KeysRotated": "32s 32s 32s",
    "ClassSet": "32s 16s Q ?",
    "NodeRegistered": "32s 32s 32s 32s 16s 32s 32s Q 16s",
    "NodeUpdated": "32s 32s 16s 32s B",
    "VaultOpened": "32s 32s 32s",
    "Deposited": "32s 32s 32s Q",
    "Withdrawn": "32s 32s 32s Q",
    "AllowanceGranted": "32s 32s 32s Q Q Q Q q",
    "AllowanceRevoked": "32s 32s 32s",
    "EscrowOpened": "32s 32s 32s 32s Q 16s 32s Q Q Q I q",
    "EscrowExtended": "32s Q Q Q Q",
    "EscrowStopping": "32s q",
    "Assigned": "32s I 32s Q H H 32s Q q",
    "Settled": "32s I 32s 32s Q B H Q Q Q Q Q Q Q ? Q 32s",
    "Released": "32s I 32s 32s H ? Q Q q",
    "Contested": "32s I 32s q ? Q Q",
    "ContestClosed": "32s I 32s ? Q ? Q 16s",
    "EscrowClosed": "32s 32s H Q Q ?",
    "OverclaimProved": "32s I 32s q Q",
    "Delegated": "32s 32s 32s Q 16s",
    "Unbonded": "32s 32s 32s 32s Q 16s Q q",
    "TicketWithdrawn": "32s 32s 32s 16s Q",
    "RewardsClaimed": "32s 32s 32s Q Q",
    "Bonded": "32s 32s 32s Q 16s",
    "Slashed": "32s 32s B H Q 16s",
    "CommissionSet": "32s H q",
    "WeightRegistered": "32s Q Q 16s",
    "EpochClosed": "Q Q 16s",
    "Distributed": "32s Q Q Q",
    "OwedWithdrawn": "32s 32s 32s Q",
    "CompensationClaimed": "32s 32s 32s Q",
    "ParamsSet": "Q I H H H H H H H H H Q Q Q Q Q Q Q Q Q Q Q Q",
    "PauseSet": "B",
    "AdminChanged": "32s 32s",
}
