"""What the builders of all actors share."""

from solders.pubkey import Pubkey

from marketplace.chain.addresses import associated_token_address
from marketplace.chain.builders.refs import Deployment


class DeploymentCalls:
    """Calls of one deployment. Raises nothing: wrong values are refused by the program, with their names."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.addresses = deployment.addresses

    def payment_account(self, owner: Pubkey) -> Pubkey:
        """The owner's associated payment-token account."""
        return associated_token_address(owner, self.deployment.payment_mint)

    def stake_account(self, owner: Pubkey) -> Pubkey:
        """The owner's associated stake-token account."""
        return associated_token_address(owner, self.deployment.stake_mint)
