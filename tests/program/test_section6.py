"""Every line of program.md section 6 has its negative tests: this table names them, and fails where one is gone.

A line's clauses stand as they do there; the tests are real ones of this folder, named after their line.
"""

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent

LINES: dict[int, dict[str, tuple[str, ...]]] = {
    1: {
        "owner of every program account": (
            "each_of_the_program_s_accounts_must_be_the_program_s",
            "a_forged_vault_of_another_owner_is_refused",
        ),
        "token program, mint and vault authority pinned": (
            "mints_and_token_programs_are_pinned",
            "no_other_party_s_account_stands_in_a_place",
            "another_vault_s_tokens_are_out_of_reach",
            "what_pays_takes_only_the_accounts_of_its_escrow",
            "distribution_takes_only_accounts_that_belong_together",
            "a_proof_takes_only_the_accounts_of_its_escrow",
        ),
        "no delegate or close authority on vaults": (
            "our_vaults_have_their_program_owned_authority_and_no_other",
            "the_protocol_s_account_is_of_the_payment_mint_and_nobody_else_s_to_spend",
        ),
    },
    2: {
        "signer on each": (
            "every_declared_signer_must_sign",
            "a_signature_is_not_made_by_passing_through_another_program",
        ),
        "writable on each": ("every_account_that_changes_must_be_writable",),
        "authority equals the stored key": (
            "no_stranger_signs_in_another_s_place",
            "a_stranger_neither_withdraws_nor_revokes_nor_claims",
            "only_the_operator_changes_his_node",
        ),
    },
    3: {
        "discriminator, exact length, version; longer and shorter": (
            "type_length_and_version_are_exact",
            "type_length_and_version_are_exact_everywhere",
            "an_account_of_another_type_stands_nowhere",
        ),
    },
    4: {
        "canonical bump stored at creation": (
            "only_the_canonical_address_is_created",
            "an_epoch_without_account_is_proved_by_its_derived_address",
        ),
        "no caller's bump": ("nobody_gives_a_bump_or_a_seed",),
        "fixed-length seeds; a prefix per type": ("no_two_types_can_share_an_address",),
    },
    5: {
        "creation survives a pre-funded address": (
            "creation_survives_a_pre_funded_address",
            "an_epoch_s_address_with_lamports_on_it_is_still_its_address",
        ),
        "re-initialisation refused": ("nothing_is_initialized_twice",),
        "initialize by a stranger refused": (
            "a_stranger_does_not_initialize",
            "an_upgradeable_program_is_initialized_by_its_upgrade_authority",
        ),
    },
    6: {
        "the same writable account twice": (
            "no_account_that_changes_stands_in_two_places",
            "the_same_account_in_two_places",
            "the_same_account_in_two_places_is_refused",
        ),
    },
    7: {
        "zeroed, lamports moved, assigned to System; revival in the same transaction": (
            "a_closed_escrow_can_t_be_revived",
            "an_escrow_closed_from_below_is_not_revived_in_the_same_transaction",
        ),
    },
    8: {
        "CPI targets hard-wired": ("the_programs_that_are_called_are_hard_wired",),
        "balances re-read; credit = after - before": ("a_credit_is_what_has_arrived",),
    },
    9: {
        "sysvars by syscall": ("no_instruction_takes_clock_or_rent_as_an_account",),
        "the Instructions sysvar by address": ("the_instructions_sysvar_is_known_by_its_address",),
    },
    10: {
        "at the given index, by program id": (
            "an_index_that_has_no_instruction",
            "the_signature_s_instruction_is_held_to_the_letter",
            "a_bad_signature_fails_before_the_program",
        ),
        "exact count; indexes 0xFFFF; offsets; whole key and message": (
            "exactly_one_signature_over_exactly_the_whole_message",
            "the_signature_s_instruction_is_held_to_the_letter",
            "who_submits_approves_only_for_itself",
        ),
        "our instruction top-level": (
            "an_assignment_with_a_signed_claim_is_taken_at_top_level_only",
            "a_settlement_with_a_signed_voucher_is_taken_at_top_level_only",
            "no_other_act_takes_signatures_from_below_either",
            "an_index_that_speaks_of_the_caller_s_instruction_is_no_way_around",
        ),
    },
    11: {
        "cross-cluster, cross-program, cross-escrow, cross-domain": (
            "a_voucher_of_elsewhere_is_worth_nothing",
            "a_claim_is_no_voucher",
        ),
        "old attempt, old sequence": (
            "old_attempts_and_old_sequences",
            "an_attempt_that_was_never_there",
            "a_voucher_of_another_attempt_or_escrow_proves_nothing",
        ),
        "another market's meter": ("another_market_s_meter_signs_nothing_here",),
    },
    12: {
        "arithmetic; rounding against the actor": (
            "time_is_bounded_by_the_chain_s_clock",
            "neither_the_maximum_time_nor_the_deposit_can_be_exceeded",
            "a_voucher_has_a_sequence_a_known_state_and_a_known_reason",
            "one_millisecond_beyond_the_clocks_difference_is_too_much",
        ),
        "conservation at the end of each instruction": (
            "what_a_vault_is_short_of_is_never_paid",
            "what_a_pool_is_short_of_is_never_taken",
            "what_a_fee_vault_is_short_of_is_never_paid",
            "what_the_emission_vault_is_short_of_is_never_paid",
        ),
    },
    13: {
        "rent exemption at creation": ("everything_that_is_made_is_exempt_from_rent",),
        "refund to the recorded payer": (
            "rent_goes_to_the_recorded_payer_only",
            "a_rent_payer_that_became_a_program_holds_nobody",
            "an_epoch_s_rent_goes_back_to_who_paid_it",
        ),
    },
    14: {
        "closed, frozen, wrong mint, someone else's": (
            "a_payout_account_that_can_t_take_tokens_never_blocks",
            "only_the_stored_payout_account_is_accepted",
            "a_payout_account_must_be_the_operator_s_own",
            "a_frozen_vault_stops_payments_and_no_way_out",
            "a_frozen_stake_vault_keeps_no_escrow_that_was_not_lost",
        ),
    },
    15: {
        "two-step admin": (
            "the_administration_changes_hands_in_two_steps",
            "a_proposal_is_replaced_and_taken_back",
        ),
        "bounded parameters": (
            "parameters_have_bounds",
            "numbers_outside_their_bounds_are_refused",
            "unbonding_outlasts_two_epochs_and_a_contest",
        ),
        "delayed fee": (
            "a_fee_is_announced_and_comes_into_effect_after_the_delay",
            "a_due_fee_stays_until_the_next_one_is_due",
            "a_new_announcement_replaces_one_that_is_not_due",
            "a_fee_has_a_bound_and_its_authority",
        ),
        "delayed commission": (
            "a_commission_changes_by_steps_and_after_its_delay",
            "what_a_commission_change_refuses",
        ),
    },
    16: {
        "pause never blocks exit": (
            "each_pause_closes_its_own_way_in_and_nothing_else",
            "pause_closes_each_way_in_and_no_way_out",
            "pause_closes_no_way_out_of_a_pool",
            "extending_is_a_way_in",
        ),
    },
    17: {
        "no loop over an unbounded number of accounts": ("no_instruction_takes_a_list",),
        "every lock has a timeout path": (
            "an_open_escrow_is_reaped_after_its_queue_limit",
            "an_assigned_escrow_is_reaped_after_everything_has_passed",
            "reap_waits_for_an_open_contest_and_then_goes_on",
            "a_price_without_bound_blocks_nobody_s_way_out",
            "a_clock_that_steps_back_blocks_no_way_out",
            "a_compensation_held_before_an_over_claim_is_cut_to_what_the_bond_still_is",
        ),
        "cranks are idempotent": ("a_crank_that_is_called_again_changes_nothing",),
    },
    18: {
        "each cap": ("each_cap_holds", "what_was_used_stays_used_when_an_allowance_is_replaced"),
        "the day's roll-over, return of the unused": ("an_extension_counts_against_every_cap", "each_cap_holds"),
        "expiry, revocation": (
            "expired_and_revoked_neither_open_nor_assign",
            "a_revoked_or_expired_allowance_extends_nothing",
        ),
        "old matcher after rotation": (
            "a_former_matcher_neither_opens_nor_assigns",
            "the_former_matcher_opens_under_no_allowance",
            "a_former_matcher_extends_nothing",
        ),
        "another market": (
            "only_the_named_market_s_matcher_opens",
            "the_allowance_must_be_the_escrow_s",
            "another_allowance_takes_back_nothing",
            "an_extension_takes_the_escrow_s_own_allowance",
        ),
        "price above the cap": ("a_lowered_price_stops_an_assignment",),
        "extension above the cap": ("an_extension_counts_against_every_cap",),
    },
    19: {
        "reuse, below the window, 257 ahead": ("nonces_are_used_once_in_a_window",),
        "1,024 outstanding": ("a_thousand_and_twenty_four_escrows_are_outstanding_at_once",),
        "two openers with the same number": ("two_openers_have_two_windows",),
    },
    20: {
        "first-depositor inflation": ("the_first_depositor_can_t_price_out_the_second",),
        "dust unbonding": ("dust_is_unbonded_and_takes_nothing_from_others",),
        "slashing to a dead pool": ("a_dead_pool_takes_nothing_and_lets_everybody_out",),
        "commission change while rewards wait": (
            "a_commission_change_leaves_waiting_rewards_alone",
            "a_commission_that_comes_due_while_rewards_wait_applies_to_them",
            "a_commission_that_has_become_due_counts_from_the_next_booking",
            "commission_comes_first_and_the_rest_goes_to_the_shares",
        ),
    },
    21: {
        "stale claim": (
            "a_claim_grows_stale_and_is_not_of_the_future",
            "a_claim_is_good_to_the_last_second_of_its_limit",
        ),
        "claim for other terms, lower price": (
            "a_claim_for_other_terms_is_no_consent",
            "a_claim_binds_price_time_and_deposit",
        ),
        "other market": (
            "a_node_of_another_market_takes_no_work_here",
            "assign_takes_only_accounts_that_belong_together",
        ),
        "node registered by a stranger": ("a_stranger_does_not_register_another_s_node_key",),
    },
    22: {
        "release by matcher doesn't compensate, nor after a settlement": (
            "the_matcher_s_release_never_compensates_nor_follows_a_settlement",
            "the_matcher_s_release_is_no_loss_after_any_silence",
            "the_matcher_shows_no_voucher",
        ),
        "release too early": ("release_too_early_and_by_strangers", "a_meter_releases_for_silence_only"),
        "loss cleared and re-decided by a later voucher": (
            "a_later_voucher_clears_the_loss_and_is_paid_from_the_reserve",
            "nothing_dated_after_the_release_or_shown_after_the_window",
            "a_quit_is_decided_anew_by_a_later_voucher",
        ),
        "quit with an old voucher": (
            "quitting_with_an_old_voucher_is_a_loss_unless_the_market_was_silent",
            "a_quit_is_a_loss_until_the_market_was_silent_three_times_as_long",
        ),
        "cancel, final and reap during a contest": (
            "cancelling_during_a_contest_waits_for_it_in_state_closing",
            "a_final_voucher_during_another_s_contest_closes_later",
            "a_reaped_attempt_is_never_a_loss_whatever_is_shown",
        ),
        "old attempt's final while another runs": (
            "a_final_voucher_of_the_contested_attempt_closes_unless_another_runs",
            "after_an_attempt_s_end_only_its_unchanged_final_voucher_closes",
        ),
        "cancel again; billing after stop_at": (
            "cancelling_an_assigned_escrow_stops_the_meter",
            "billing_ends_at_stop_at",
            "after_a_cancellation_nothing_is_assigned_again",
        ),
        "reap after failover": ("reaping_counts_only_the_time_that_is_left_after_a_failover",),
    },
    23: {
        "own market with fee 0": ("a_market_without_fee_still_pays_the_protocol", "washing_costs_what_it_brings"),
        "amount 0, wallet-countersigned vouchers": (
            "neither_nothing_nor_the_wallet_s_own_word_makes_a_record",
            "without_anything_metered_there_is_no_weight",
        ),
        "registering late": ("a_weight_is_registered_in_the_first_half_of_the_next_epoch_only",),
        "delegating between registration and distribute": (
            "delegating_after_registration_adds_no_weight",
            "delegating_after_registration_takes_of_the_pool_s_other_shares_only",
        ),
        "dust settles in later epochs": (
            "dust_settled_in_a_later_epoch_makes_no_weight_of_the_rest",
            "a_weight_of_an_epoch_without_work_is_refused",
        ),
    },
    24: {
        "meter rotation in the middle of an attempt": (
            "a_running_attempt_keeps_its_meter_and_the_next_has_the_new_one",
            "vouchers_and_releases_of_the_former_meter_stay_good",
        ),
        "fee change between two attempts": ("a_new_fee_counts_from_the_next_attempt",),
        "payout account that is one of ours": ("a_payout_account_of_ours_is_refused_at_registration",),
    },
    25: {
        "unbonding below class bond + held": (
            "the_class_bond_stays_while_the_node_is_active",
            "with_attempts_the_bond_stays_also_of_a_draining_or_suspended_node",
            "what_is_held_for_losses_stays_beside_the_class_bond",
            "what_is_held_of_a_bond_is_no_bond",
        ),
        "leaving for another market or class, or retiring, with attempts open": (
            "a_node_with_work_stays_where_it_is",
            "no_move_to_another_class_below_its_bond_or_with_attempts",
            "a_node_with_a_contest_open_can_t_retire",
        ),
        "several losses on one bond": (
            "several_losses_never_take_more_of_a_bond_than_its_cap",
            "several_over_claims_of_one_epoch_stop_at_the_cap",
            "what_is_held_for_one_loss_is_not_held_for_another",
        ),
    },
}


def named_here() -> dict[str, list[str]]:
    """Names of the test functions of this folder, and in which files each stands."""
    found: dict[str, list[str]] = {}
    for path in sorted(HERE.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found.setdefault(node.name, []).append(path.name)
    return found


def test_the_table_has_every_line():
    assert sorted(LINES) == list(range(1, 26))
    assert all(names for clauses in LINES.values() for names in clauses.values())


@pytest.mark.parametrize("line", LINES)
def test_every_clause_of_the_line_has_its_tests(line):
    there = named_here()
    for clause, names in LINES[line].items():
        for name in names:
            assert f"test_line_{line}_{name}" in there, (line, clause, name)


def test_every_test_that_names_a_line_names_one_that_there_is():
    for name, files in named_here().items():
        match = re.match(r"test_line_(\d+)_", name)
        if match:
            assert int(match[1]) in LINES, (name, files)
        assert len(files) == 1 or match is None, f"{name} stands in {files}: the table can't tell which"
