use crate::quantities::{Bool, Stake};

/// A class's id: its name in ASCII, padded with zeros.
pub type ClassId = [u8; 16];

/// In an escrow: whatever class.
pub const ANY_CLASS: ClassId = [0; 16];

account! {
    /// A class of machines and the bond it asks for.
    Class, reserved 32 {
        class_id: ClassId,
        minimum_bond: Stake,
        enabled: Bool,
    }
}
