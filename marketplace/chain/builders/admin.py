"""Calls of the deployment's administration."""

from solders.pubkey import Pubkey

from marketplace.chain import instructions as calls
from marketplace.chain.accounts import Params
from marketplace.chain.addresses import SYSTEM_PROGRAM, TOKEN_PROGRAM
from marketplace.chain.builders.base import DeploymentCalls


class AdminCalls(DeploymentCalls):
    """The administration of a deployment."""

    def initialize(
        self,
        payer: Pubkey,
        authority: Pubkey,
        protocol_token: Pubkey,
        program_data: Pubkey | None,
        params: Params,
        epoch_length_ms: int,
        first_emission: int,
    ) -> calls.Initialize:
        """program_data: the upgradeable loader's account, None where the program isn't upgradeable."""
        return calls.Initialize(
            calls.InitializeAccounts(
                payer=payer,
                authority=authority,
                config=self.addresses.config(),
                payment_mint=self.deployment.payment_mint,
                stake_mint=self.deployment.stake_mint,
                protocol_token=protocol_token,
                compensation_vault=self.addresses.compensation(),
                emission_vault=self.addresses.emission(),
                program=self.deployment.program,
                program_data=program_data,
                token_program=TOKEN_PROGRAM,
                system_program=SYSTEM_PROGRAM,
            ),
            calls.InitializeArgs(
                genesis_hash=self.deployment.genesis_hash,
                params=params,
                epoch_length=epoch_length_ms,
                first_emission=first_emission,
            ),
        )

    def set_class(
        self, payer: Pubkey, admin: Pubkey, class_id: bytes, minimum_bond: int, *, enabled: bool
    ) -> calls.SetClass:
        return calls.SetClass(
            calls.SetClassAccounts(
                payer=payer,
                admin=admin,
                config=self.addresses.config(),
                class_account=self.addresses.hardware_class(class_id),
                system_program=SYSTEM_PROGRAM,
            ),
            calls.SetClassArgs(class_id=class_id, minimum_bond=minimum_bond, enabled=enabled),
        )

    def set_params(self, admin: Pubkey, params: Params) -> calls.SetParams:
        """All numbers at once: those that stay are given as Config holds them."""
        return calls.SetParams(
            calls.SetParamsAccounts(admin=admin, config=self.addresses.config()), calls.SetParamsArgs(params=params)
        )

    def set_pause(self, admin: Pubkey, paused: int) -> calls.SetPause:
        """paused: the bits of `accounts.Pause` that are closed from now on, the others are open."""
        return calls.SetPause(
            calls.SetPauseAccounts(admin=admin, config=self.addresses.config()), calls.SetPauseArgs(paused=paused)
        )

    def propose_admin(self, admin: Pubkey, candidate: Pubkey) -> calls.ProposeAdmin:
        """candidate: the null address takes the proposal back."""
        return calls.ProposeAdmin(
            calls.ProposeAdminAccounts(admin=admin, config=self.addresses.config()),
            calls.ProposeAdminArgs(candidate=candidate),
        )

    def accept_admin(self, candidate: Pubkey) -> calls.AcceptAdmin:
        return calls.AcceptAdmin(calls.AcceptAdminAccounts(candidate=candidate, config=self.addresses.config()))
