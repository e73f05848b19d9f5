//! Claims and vouchers: what nodes, meters and wallets sign, and how the program knows that they did.
//!
//! What is signed is always `domain[16] ‖ sha256(fields)`: 48 bytes. The fields travel as instruction
//! arguments; the program rebuilds them from its accounts and the arguments. `node` is the address of
//! the Node account in both; the signature is by its `node_key`.

use pinocchio::{
    sysvars::instructions::{Instructions, INSTRUCTIONS_ID},
    AccountView, Address,
};

use crate::{
    checks::require,
    declare::{bytes_of, Field},
    errors::MarketError,
    hash::sha256,
    quantities::{Bps, Count, Hash, Key, Millis, Number, Price, Reason, Time, Tokens},
    state::ClassId,
    sysvars,
};

/// The domain of claims.
pub const CLAIM_DOMAIN: &[u8; 16] = b"reaver:claim:v01";
/// The domain of vouchers.
pub const VOUCHER_DOMAIN: &[u8; 16] = b"reaver:voucher:1";
/// Length of everything that is signed.
pub const MESSAGE_LEN: usize = 48;

/// As an approval's index: the submitter of the transaction is the one who approves.
pub const SUBMITTER: u8 = 255;

/// Values of a voucher's state.
pub mod voucher_state {
    /// The attempt goes on.
    pub const RUNNING: u8 = 1;
    /// The attempt is over, the escrow may go on.
    pub const ENDED: u8 = 2;
    /// Attempt and escrow are over.
    pub const FINAL: u8 = 3;
}

/// Ed25519SigVerify111111111111111111111111111
pub const ED25519_ID: Address = Address::new_from_array([
    0x03, 0x7d, 0x46, 0xd6, 0x7c, 0x93, 0xfb, 0xbe, 0x12, 0xf9, 0x42, 0x8f, 0x83, 0x8d, 0x40, 0xff,
    0x05, 0x70, 0x74, 0x49, 0x27, 0xf4, 0x8a, 0x64, 0xfc, 0xca, 0x70, 0x44, 0x80, 0x00, 0x00, 0x00,
]);

record! {
    /// The node's consent to an attempt.
    Claim {
        program_id: Key,
        genesis_hash: Hash,
        escrow: Key,
        attempt: Count,
        market: Key,
        node: Key,
        class_id: ClassId,
        price: Price,
        time_left: Millis,
        deposit_left: Tokens,
        terms_hash: Hash,
        fee_bps: Bps,
        at: Time,
    }
}

record! {
    /// Cumulative usage of one attempt.
    Voucher {
        program_id: Key,
        genesis_hash: Hash,
        escrow: Key,
        attempt: Count,
        wallet: Key,
        node: Key,
        sequence: Number,
        started_at: Time,
        at: Time,
        billed: Millis,
        amount: Tokens,
        state: u8,
        reason: Reason,
        digest: Hash,
    }
}

record! {
    /// A voucher as an argument: what the program can't know from its accounts, and who approves.
    VoucherArgs {
        /// From 1; 0: no voucher is shown.
        sequence: Number,
        started_at: Time,
        at: Time,
        billed: Millis,
        /// 1 running, 2 ended, 3 final.
        state: u8,
        reason: Reason,
        digest: Hash,
        /// Index of the Ed25519 instruction with the node's signature; 255: the submitter is the node.
        node_approval: u8,
        /// The same for the meter's (or the wallet's) signature.
        counter_approval: u8,
    }
}

/// The bytes that are signed.
#[inline(always)]
#[must_use]
pub fn message<T: Field>(domain: &[u8; 16], fields: &T) -> [u8; MESSAGE_LEN] {
    let mut out = [0u8; MESSAGE_LEN];
    out[..16].copy_from_slice(domain);
    out[16..].copy_from_slice(&sha256(bytes_of(fields)));
    out
}

impl Claim {
    /// The bytes that the node signs.
    #[inline(never)]
    #[must_use]
    pub fn message(&self) -> [u8; MESSAGE_LEN] {
        message(CLAIM_DOMAIN, self)
    }
}

impl Voucher {
    /// The bytes that node and meter (or wallet) sign.
    #[inline(never)]
    #[must_use]
    pub fn message(&self) -> [u8; MESSAGE_LEN] {
        message(VOUCHER_DOMAIN, self)
    }
}

/// Where approvals are looked for.
pub struct Approvals<'a> {
    /// Who signed the transaction for this instruction.
    pub submitter: Key,
    /// The instructions sysvar.
    pub instructions: &'a AccountView,
    /// What must be approved.
    pub message: &'a [u8; MESSAGE_LEN],
}

impl Approvals<'_> {
    /// Checks one approval and says which of the two keys gave it (true: the first).
    ///
    /// # Errors
    /// `ApprovalWrongKey` and the other `Approval…`, `NotTopLevel`, `WrongSysvar`.
    #[inline(never)]
    pub fn by_one_of(&self, index: u8, first: &Key, second: &Key) -> Result<bool, MarketError> {
        if index == SUBMITTER {
            if self.submitter == *first {
                return Ok(true);
            }
            require(self.submitter == *second, MarketError::ApprovalWrongKey)?;
            return Ok(false);
        }
        require(
            self.instructions.address() == &INSTRUCTIONS_ID,
            MarketError::WrongSysvar,
        )?;
        // Under another program the sysvar would speak of that program's instruction.
        require(sysvars::is_top_level(), MarketError::NotTopLevel)?;
        let instructions = Instructions::try_from(self.instructions)?;
        require(
            (index as u16) < instructions.load_current_index(),
            MarketError::ApprovalNotBelow,
        )?;
        let instruction = instructions.load_instruction_at(index as usize)?;
        require(
            instruction.get_program_id() == &ED25519_ID,
            MarketError::ApprovalWrongProgram,
        )?;
        let key = approved_key(instruction.get_instruction_data(), self.message)?;
        if key == first.0 {
            return Ok(true);
        }
        require(key == second.0, MarketError::ApprovalWrongKey)?;
        Ok(false)
    }

    /// Checks one approval by one key.
    ///
    /// # Errors
    /// As `by_one_of`.
    #[inline(always)]
    pub fn by(&self, index: u8, key: &Key) -> Result<(), MarketError> {
        self.by_one_of(index, key, key).map(|_| ())
    }
}

/// The key whose signature over the message an Ed25519 instruction has verified: exactly one signature;
/// signature, key and message all inside this very instruction (index 0xFFFF); offsets in bounds; the
/// whole message compared.
///
/// # Errors
/// `ApprovalMalformed`, `ApprovalWrongMessage`.
pub fn approved_key<'a>(
    data: &'a [u8],
    message: &[u8; MESSAGE_LEN],
) -> Result<&'a [u8], MarketError> {
    require(
        data.len() >= 16 && data[0] == 1,
        MarketError::ApprovalMalformed,
    )?;
    let word = |at: usize| u16::from_le_bytes([data[at], data[at + 1]]);
    let (signature_at, key_at, message_at) =
        (word(2) as usize, word(6) as usize, word(10) as usize);
    let all_here = word(4) == u16::MAX && word(8) == u16::MAX && word(14) == u16::MAX;
    require(
        all_here && signature_at + 64 <= data.len() && word(12) as usize == MESSAGE_LEN,
        MarketError::ApprovalMalformed,
    )?;
    let key = data
        .get(key_at..key_at + 32)
        .ok_or(MarketError::ApprovalMalformed)?;
    let signed = data
        .get(message_at..message_at + MESSAGE_LEN)
        .ok_or(MarketError::ApprovalMalformed)?;
    require(signed == message, MarketError::ApprovalWrongMessage)?;
    Ok(key)
}

/// The structs of this module that the IDL names.
#[cfg(not(target_arch = "bpf"))]
pub const RECORDS: &[crate::idl::Struct] = &[VoucherArgs::IDL];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn instruction(key: &[u8; 32], message: &[u8]) -> Vec<u8> {
        let mut data = vec![1u8, 0];
        for word in [48u16, 0xFFFF, 16, 0xFFFF, 112, message.len() as u16, 0xFFFF] {
            data.extend_from_slice(&word.to_le_bytes());
        }
        data.extend_from_slice(key);
        data.extend_from_slice(&[0; 64]);
        data.extend_from_slice(message);
        data
    }

    fn voucher() -> Voucher {
        Voucher {
            program_id: Key([1; 32]),
            genesis_hash: [2; 32],
            escrow: Key([3; 32]),
            attempt: Count::new(1),
            wallet: Key([4; 32]),
            node: Key([5; 32]),
            sequence: Number::new(7),
            started_at: Time::new(1_000),
            at: Time::new(9_000),
            billed: Millis::new(8_000),
            amount: Tokens::new(123),
            state: voucher_state::FINAL,
            reason: Reason::new(1),
            digest: [6; 32],
        }
    }

    #[test]
    fn sizes_are_the_published_ones() {
        assert_eq!(Claim::LEN, 6 * 32 + 4 + 16 + 3 * 8 + 2 + 8);
        assert_eq!(Voucher::LEN, 6 * 32 + 4 + 5 * 8 + 1 + 2);
        assert_eq!(VoucherArgs::LEN, 4 * 8 + 1 + 2 + 32 + 2);
    }

    /// Computed with Python's hashlib from the table of fields, not with this crate.
    #[test]
    fn golden() {
        let hex: String = voucher()
            .message()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, "7265617665723a766f75636865723a31abcfaa5b38207964d0a2e37eba20c5a46b458711594568c6db89631f576e86e3");
        let claim = Claim {
            program_id: Key([1; 32]),
            genesis_hash: [2; 32],
            escrow: Key([3; 32]),
            attempt: Count::new(2),
            market: Key([7; 32]),
            node: Key([5; 32]),
            class_id: *b"cpu-small\0\0\0\0\0\0\0",
            price: Price::new(1_000_000),
            time_left: Millis::new(600_000),
            deposit_left: Tokens::new(170_000),
            terms_hash: [8; 32],
            fee_bps: Bps::new(500),
            at: Time::new(1_700_000_000_000),
        };
        let hex: String = claim
            .message()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, "7265617665723a636c61696d3a763031927e0c5abd22cce6771781689c07e74779e5ca4332cf46cd70b09d7017a88724");
    }

    #[test]
    fn exactly_one_self_contained_signature() {
        let (key, message) = ([7u8; 32], voucher().message());
        let good = instruction(&key, &message);
        assert_eq!(approved_key(&good, &message), Ok(&key[..]));
        for position in [4, 8, 14] {
            let mut elsewhere = good.clone();
            elsewhere[position] = 0;
            assert_eq!(
                approved_key(&elsewhere, &message),
                Err(MarketError::ApprovalMalformed)
            );
        }
        for count in [0, 2, 255] {
            let mut several = good.clone();
            several[0] = count;
            assert_eq!(
                approved_key(&several, &message),
                Err(MarketError::ApprovalMalformed)
            );
        }
        for cut in 0..good.len() {
            assert!(approved_key(&good[..cut], &message).is_err());
        }
        let other = Voucher {
            amount: Tokens::new(124),
            ..voucher()
        };
        assert_eq!(
            approved_key(&good, &other.message()),
            Err(MarketError::ApprovalWrongMessage)
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(data: Vec<u8>) {
            let _ = approved_key(&data, &[0; MESSAGE_LEN]);
        }

        #[test]
        fn no_mutation_of_a_header_is_accepted_for_another_message(at in 0usize..16, byte: u8) {
            let message = voucher().message();
            let mut data = instruction(&[7; 32], &message);
            data[at] = byte;
            if let Ok(key) = approved_key(&data, &message) {
                // only the unused padding byte and the signature's offset may differ
                prop_assert!(key == [7u8; 32] || at == 6 || at == 7);
            }
        }
    }
}
