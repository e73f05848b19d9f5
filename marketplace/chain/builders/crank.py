"""Calls that anybody may make to move an epoch of the emission on."""

from solders.pubkey import Pubkey

from marketplace.chain import instructions as calls
from marketplace.chain.addresses import SYSTEM_PROGRAM, TOKEN_PROGRAM
from marketplace.chain.builders.base import DeploymentCalls


class CrankCalls(DeploymentCalls):
    """Registering, closing and distributing epochs. node: address of the Node account."""

    def register_weight(self, submitter: Pubkey, node: Pubkey, epoch: int) -> calls.RegisterWeight:
        """The submitter pays the epoch account's rent if it is the first, and gets it back at its end."""
        return calls.RegisterWeight(
            calls.RegisterWeightAccounts(
                submitter=submitter,
                config=self.addresses.config(),
                node=node,
                pool=self.addresses.pool(node),
                epoch=self.addresses.epoch(epoch),
                system_program=SYSTEM_PROGRAM,
            ),
            calls.RegisterWeightArgs(epoch=epoch),
        )

    def close_epoch(self, submitter: Pubkey, epoch: int, rent_payer: Pubkey | None) -> calls.CloseEpoch:
        """rent_payer: the epoch account's, None where nobody registered and there is no account."""
        return calls.CloseEpoch(
            calls.CloseEpochAccounts(
                submitter=submitter,
                config=self.addresses.config(),
                epoch_account=self.addresses.epoch(epoch),
                emission_vault=self.addresses.emission(),
                rent_payer=rent_payer or submitter,
            ),
            calls.CloseEpochArgs(epoch=epoch),
        )

    def distribute(self, submitter: Pubkey, node: Pubkey, epoch: int, rent_payer: Pubkey) -> calls.Distribute:
        """rent_payer: the epoch account's."""
        pool = self.addresses.pool(node)
        return calls.Distribute(
            calls.DistributeAccounts(
                submitter=submitter,
                config=self.addresses.config(),
                node=node,
                pool=pool,
                epoch_account=self.addresses.epoch(epoch),
                emission_vault=self.addresses.emission(),
                pool_stake=self.addresses.pool_stake(pool),
                rent_payer=rent_payer,
                token_program=TOKEN_PROGRAM,
            )
        )
