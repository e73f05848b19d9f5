//! Every refusal, each with its own number, so that a test can ask for exactly one.

use pinocchio::error::ProgramError;

errors! {
    // what was sent
    UnknownInstruction = "The first eight bytes name no instruction";
    WrongArguments = "The arguments do not have the declared length or values";
    WrongAccountCount = "The instruction takes another number of accounts";
    SignerMissing = "A required signature is missing";
    AccountNotWritable = "An account that changes was not passed as writable";
    // accounts
    WrongAccountOwner = "The account does not belong to the expected program";
    WrongAccountType = "The account is of another type";
    WrongAccountSize = "The account is longer or shorter than its type";
    WrongAccountVersion = "The account has a version that this program does not read";
    WrongAddress = "The address is not the one derived for this account";
    AlreadyInitialized = "The account exists already";
    DuplicateAccount = "The same account stands in two places";
    WrongProgram = "A program to be called is not the expected one";
    WrongSysvar = "The account is not the instructions sysvar";
    // arithmetic
    MathOverflow = "A sum, product or quotient left its range";
    MathUnderflow = "A difference fell below zero";
    ConservationBroken = "The balances after the transfers do not add up";
    // administration
    NotInitialAuthority = "Only the program's upgrade authority, or its compiled-in key, initializes";
    NotAdmin = "Only the admin may do this";
    ParameterOutOfBounds = "A parameter is outside its bounds";
    MintsEqual = "Payment and stake must be different mints";
    Paused = "This way in is paused";
    // tokens
    TokenProgramUnsupported = "Only the classic token program is supported, not Token-2022";
    WrongMint = "The mint is not the deployment's";
    WrongTokenAccount = "The token account is not the recorded one";
    TokenAccountInvalid = "The token account is missing, frozen or not initialized";
    TokenAccountDelegated = "The token account has a delegate or a close authority";
    WrongTokenOwner = "The token account belongs to somebody else";
    TransferShort = "The token transfer did not move the whole amount";
    // who signs
    NotWallet = "Only the wallet may do this";
    NotOperator = "Only the node's operator may do this";
    NotNodeKey = "Only the node's key may do this";
    NotMatcher = "Only the market's matcher may do this";
    NotMarketAuthority = "Only the market's authority may do this";
    NotOpener = "Only the wallet or the matcher of its market may do this";
    NotReleaser = "Only the attempt's meter, or the market's keys of the moment, may release";
    // markets and classes
    KeysEqual = "Matcher and meter must be different keys";
    FeeTooHigh = "The fee is above its bound";
    WrongMarket = "The market is not the recorded one";
    WrongClass = "The class is not the node's";
    ClassDisabled = "The class is disabled";
    // vaults
    AmountZero = "The amount is zero";
    InsufficientFunds = "The vault's free balance is too small";
    WrongVault = "The vault belongs to another wallet";
    NothingOwed = "There is nothing to pay out";
    // nonces
    NonceUsed = "The nonce was used before";
    NonceTooOld = "The nonce lies below the window";
    NonceTooFarAhead = "The nonce is more than 256 above the highest";
    // allowances
    AllowanceMissing = "The escrow was opened under an allowance, which must be passed";
    AllowanceUnexpected = "The wallet opened this escrow itself: no allowance belongs here";
    WrongAllowance = "The allowance is of another wallet or market";
    AllowanceRevoked = "The allowance is revoked";
    AllowanceExpired = "The allowance has expired";
    AllowanceTerms = "The allowance's caps must be positive and its expiry in the future";
    EscrowCapExceeded = "The deposit is above the allowance's cap per escrow";
    DayCapExceeded = "The deposit would exceed the allowance's cap of today";
    TotalCapExceeded = "The deposit would exceed the allowance's total";
    PriceAboveAllowance = "The price is above the allowance's highest price";
    // opening
    DepositTooSmall = "The deposit is below the minimum";
    PriceZero = "The price is zero";
    DurationOutOfBounds = "The maximum time is zero or too long";
    AttemptsOutOfBounds = "The number of attempts is zero or too high";
    // the escrow's state
    EscrowNotOpen = "The escrow is not open for this";
    EscrowNotAssigned = "No attempt is running";
    EscrowIsClosing = "The escrow is closing: only contest and close_contest are accepted";
    EscrowIsStopping = "The escrow was cancelled: no further attempt";
    StopAlreadySet = "The escrow was cancelled before";
    AssignWindowPassed = "The time to assign has passed";
    AttemptsExhausted = "All attempts are used";
    WrongRentPayer = "The account is not the recorded rent payer";
    WrongEscrow = "The escrow belongs to another market or wallet";
    // assigning
    ClaimFromFuture = "The claim is dated in the future";
    ClaimStale = "The claim is older than the claim limit";
    PriceAboveCeiling = "The price is above the escrow's ceiling";
    TimeLeftTooShort = "Less time is left than the claim asks for";
    DepositLeftTooSmall = "Less deposit is left than the claim asks for";
    NothingLeft = "Nothing of the deposit is left";
    WrongNode = "The node is not the one of this attempt";
    WrongPool = "The pool is not the node's";
    WrongPosition = "The position is not the operator's";
    NodeNotActive = "The node is draining, suspended or retired";
    NodeElsewhere = "The node belongs to another market";
    ClassMismatch = "The node's class is not the one the escrow asks for";
    BondTooSmall = "The operator's own bond is below the class bond and what is held of it";
    SlashCapReached = "The bond has been taken up to its cap in this epoch";
    PoolDead = "The pool's stake has fallen too low";
    ExposureExceeded = "The node's stake does not cover this deposit";
    // approvals
    NotTopLevel = "Signatures are checked in top-level instructions only";
    ApprovalNotBelow = "The signature's instruction must come before this one";
    ApprovalWrongProgram = "The named instruction is not the Ed25519 precompile";
    ApprovalMalformed = "The precompile's instruction does not hold exactly one self-contained signature";
    ApprovalWrongKey = "The signature is of another key";
    ApprovalWrongMessage = "The signature is over another message";
    // vouchers
    VoucherMissing = "A voucher is required";
    VoucherStateUnknown = "The voucher's state is neither running, ended nor final";
    WrongAttempt = "The voucher is of another attempt";
    SequenceNotHigher = "The voucher is not newer than the last one";
    StartChanged = "The voucher names another start than the first one";
    StartTooEarly = "The start lies before the assignment";
    StartAfterVoucher = "The start lies after the voucher's time";
    VoucherFromFuture = "The voucher is dated in the future";
    VoucherTimeFell = "The voucher is dated before the last one";
    BilledFell = "The billed time is below the last one";
    BilledBeyondClock = "More time is billed than has passed since the start";
    BilledTooFast = "More time is billed than has passed since the last voucher";
    BilledBeyondMaximum = "More time is billed than the escrow allows";
    AmountBeyondExposure = "The amount is above what this attempt may cost";
    AmountBeyondReserve = "The amount is above what is reserved for the contest";
    FinalAmountChanged = "The attempt has ended: its final voucher can't raise the amount";
    // one-sided ends
    ContestBusy = "Another contest is open: close it first";
    NoContest = "No contest is open";
    ContestWindowOpen = "The contest window is still open";
    ContestWindowPassed = "The contest window has passed";
    VoucherAfterRelease = "The voucher is dated after the release";
    CountersignerNotMeter = "Only a voucher countersigned by the attempt's meter counts here";
    ReleaseTooEarly = "The node has not been silent for long enough";
    ReasonNotAllowed = "This end may not carry this reason";
    AlreadyPaid = "Something of the attempt is settled: the matcher can't release it any more";
    ReapTooEarly = "The escrow's time has not run out";
    // operators
    AttemptsOpen = "The node has running or contested attempts";
    NodeRetired = "The node is retired";
    BondBelowClass = "The bond is below the class bond";
    VoucherUnexpected = "No voucher may be shown here";
    RuntimeRefused = "The runtime refused a call: a sysvar is missing or an account is borrowed";
    // stake
    OperatorPosition = "The operator's own stake is its bond: bond and unbond_bond change it";
    NotPositionOwner = "Only the position's owner may do this";
    SharesInsufficient = "The position has fewer shares";
    WrongTicket = "The ticket is of another position";
    TicketLocked = "The unbonding time has not passed";
    CommissionStepTooLarge = "The commission changes by more than one step allows";
    NodeSuspended = "The node is suspended by its market";
    NodeNotSuspended = "The node is not suspended";
    // epochs
    WrongEpoch = "The account or number is of another epoch";
    EpochWindowClosed = "Weights of an epoch are registered in the first half of the next one only";
    EpochTooEarly = "The epoch's registration has not ended";
    EpochNotClosed = "The epoch's emission is not fixed yet";
    EpochOver = "The epoch's distribution has ended";
    EpochNotOver = "The epoch is still being distributed";
    WeightRegisteredAlready = "The node's weight in this epoch is registered";
    WeightZero = "The node has no weight in this epoch";
    NotRegistered = "The node registered no weight in this epoch";
    AlreadyDistributed = "The pool has drawn its part of this epoch";
    // over-claims
    NoOverclaim = "The voucher does not bill more than can have passed";
}

// A failed call of another program ends the transaction by itself, with that program's error. What comes
// back as an error are only the checks before a call, and sysvars.
impl From<ProgramError> for MarketError {
    #[inline(always)]
    fn from(_: ProgramError) -> Self {
        Self::RuntimeRefused
    }
}

impl From<MarketError> for ProgramError {
    #[inline(always)]
    fn from(error: MarketError) -> Self {
        Self::Custom(error.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_consecutive_from_6000() {
        for (expected, entry) in (6000..).zip(ALL) {
            assert_eq!(entry.code, expected, "{}", entry.name);
        }
    }
}
