//! One file per instruction, by actor. Each opens with its specification.

use pinocchio::{error::ProgramError, ProgramResult};

use crate::{errors::MarketError, Ctx};

macro_rules! registry {
    ($($actor:ident { $($(#[doc = $doc:literal])* $name:ident),+ $(,)? })+) => {
        $(
            #[doc = concat!("Instructions of: ", stringify!($actor), ".")]
            pub mod $actor {
                $($(#[doc = $doc])* pub mod $name;)+
            }
        )+

        /// Hands over to the instruction that the first eight bytes name.
        ///
        /// # Errors
        /// `UnknownInstruction`, or whatever the instruction refuses.
        #[inline(never)]
        pub fn dispatch(mut ctx: Ctx<'_>) -> ProgramResult {
            let Some((head, args)) = ctx.data.split_first_chunk::<8>() else {
                return Err(MarketError::UnknownInstruction.into());
            };
            ctx.data = args;
            let head = u64::from_le_bytes(*head);
            $($(
                if head == const { u64::from_le_bytes($actor::$name::DISCRIMINATOR) } {
                    // each handler keeps a stack frame of its own
                    #[inline(never)]
                    fn handle(ctx: Ctx<'_>) -> Result<(), MarketError> {
                        $actor::$name::process(ctx)
                    }
                    return handle(ctx).map_err(ProgramError::from);
                }
            )+)+
            Err(MarketError::UnknownInstruction.into())
        }

        /// All instructions, for the IDL.
        #[cfg(not(target_arch = "bpf"))]
        pub const ALL: &[crate::idl::Instruction] = &[$($($actor::$name::IDL),+),+];
    };
}

registry! {
    settlement { settle, assign, open_escrow, release_node, quit, contest, close_contest, reap, cancel_escrow }
    renter { open_vault, deposit, withdraw, claim_compensation, grant_allowance, revoke_allowance }
    operator { register_node, bond, update_node, withdraw_owed }
    market { register_market }
    admin { initialize, set_class }
}
