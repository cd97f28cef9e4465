//! AArch64: *ELF for the Arm 64-bit Architecture* (aaelf64); each row ends with the name of its table there.
//!
//! `PREL32` and `PREL16` are read as signed by what consumes them (unwind tables), and GNU ld 2.40 takes
//! them as such; the ABI's own text also lets values up to 2^32 and 2^16 pass, which would come out
//! negative. The signed range stands here.
//!
//! Of the GOT-relative group relocations (`MOVW_GOTOFF` and those of TLS entries) the ABI says which are checked and not for what: for what their
//! pc-relative counterparts are, since a `MOVN` or `MOVZ` holds no more.
//!
//! In the Local Exec rows the target is the TPREL itself, the variable's offset from the thread pointer, and in the rows with
//! DTPREL in their names its offset in the module's block.
//! `TLSDESC_LDR`, `_ADD` and `_CALL` only mark instructions and have no row.

use super::{
    ANY, RelocationRange, absolute, find, from_page, low_bits, page_relative, relative, signed,
    signed_or_unsigned, unsigned,
};

/// 64 bits of data, S + A. Data relocations.
pub const ABS64: RelocationRange = absolute("R_AARCH64_ABS64", 257, ANY);
/// 32 bits of data, S + A, under either reading. Data relocations.
pub const ABS32: RelocationRange = absolute("R_AARCH64_ABS32", 258, signed_or_unsigned(32));
/// 16 bits of data, S + A, under either reading. Data relocations.
pub const ABS16: RelocationRange = absolute("R_AARCH64_ABS16", 259, signed_or_unsigned(16));
/// 64 bits of data, S + A - P. Data relocations.
pub const PREL64: RelocationRange = relative("R_AARCH64_PREL64", 260, ANY);
/// 32 bits of data, S + A - P, as `.eh_frame` uses them; see above for the sign. Data relocations.
pub const PREL32: RelocationRange = relative("R_AARCH64_PREL32", 261, signed(32));
/// 16 bits of data, S + A - P; see above for the sign. Data relocations.
pub const PREL16: RelocationRange = relative("R_AARCH64_PREL16", 262, signed(16));
/// `MOVZ` of bits 0 to 15 of S + A. Unsigned group relocations.
pub const MOVW_UABS_G0: RelocationRange = absolute("R_AARCH64_MOVW_UABS_G0", 263, unsigned(16));
/// `MOVK` of bits 0 to 15 of S + A, unchecked. Unsigned group relocations.
pub const MOVW_UABS_G0_NC: RelocationRange = absolute("R_AARCH64_MOVW_UABS_G0_NC", 264, ANY);
/// `MOVZ` of bits 16 to 31 of S + A. Unsigned group relocations.
pub const MOVW_UABS_G1: RelocationRange = absolute("R_AARCH64_MOVW_UABS_G1", 265, unsigned(32));
/// `MOVK` of bits 16 to 31 of S + A, unchecked. Unsigned group relocations.
pub const MOVW_UABS_G1_NC: RelocationRange = absolute("R_AARCH64_MOVW_UABS_G1_NC", 266, ANY);
/// `MOVZ` of bits 32 to 47 of S + A. Unsigned group relocations.
pub const MOVW_UABS_G2: RelocationRange = absolute("R_AARCH64_MOVW_UABS_G2", 267, unsigned(48));
/// `MOVK` of bits 32 to 47 of S + A, unchecked. Unsigned group relocations.
pub const MOVW_UABS_G2_NC: RelocationRange = absolute("R_AARCH64_MOVW_UABS_G2_NC", 268, ANY);
/// `MOVK` or `MOVZ` of bits 48 to 63 of S + A. Unsigned group relocations.
pub const MOVW_UABS_G3: RelocationRange = absolute("R_AARCH64_MOVW_UABS_G3", 269, ANY);
/// `MOVN` or `MOVZ` of bits 0 to 15 of S + A. Signed group relocations.
pub const MOVW_SABS_G0: RelocationRange = absolute("R_AARCH64_MOVW_SABS_G0", 270, signed(17));
/// `MOVN` or `MOVZ` of bits 16 to 31 of S + A. Signed group relocations.
pub const MOVW_SABS_G1: RelocationRange = absolute("R_AARCH64_MOVW_SABS_G1", 271, signed(33));
/// `MOVN` or `MOVZ` of bits 32 to 47 of S + A. Signed group relocations.
pub const MOVW_SABS_G2: RelocationRange = absolute("R_AARCH64_MOVW_SABS_G2", 272, signed(49));
/// Load literal. PC-relative relocations.
pub const LD_PREL_LO19: RelocationRange =
    relative("R_AARCH64_LD_PREL_LO19", 273, signed(21)).aligned(4);
/// `ADR`, to the byte. PC-relative relocations.
pub const ADR_PREL_LO21: RelocationRange = relative("R_AARCH64_ADR_PREL_LO21", 274, signed(21));
/// `ADRP`. PC-relative relocations.
pub const ADR_PREL_PG_HI21: RelocationRange =
    page_relative("R_AARCH64_ADR_PREL_PG_HI21", 275, signed(33));
/// `ADRP`, unchecked. PC-relative relocations.
pub const ADR_PREL_PG_HI21_NC: RelocationRange =
    page_relative("R_AARCH64_ADR_PREL_PG_HI21_NC", 276, ANY);
/// `ADD` after `ADRP`. PC-relative relocations.
pub const ADD_ABS_LO12_NC: RelocationRange = low_bits("R_AARCH64_ADD_ABS_LO12_NC", 277);
/// Load or store of 1 byte after `ADRP`. PC-relative relocations.
pub const LDST8_ABS_LO12_NC: RelocationRange = low_bits("R_AARCH64_LDST8_ABS_LO12_NC", 278);
/// `TBZ`, `TBNZ`. Control-flow relocations.
pub const TSTBR14: RelocationRange = relative("R_AARCH64_TSTBR14", 279, signed(16)).aligned(4);
/// Conditional branch, `CBZ`, `CBNZ`. Control-flow relocations.
pub const CONDBR19: RelocationRange = relative("R_AARCH64_CONDBR19", 280, signed(21)).aligned(4);
/// `B`; beyond its range a veneer may stand in. Control-flow relocations.
pub const JUMP26: RelocationRange = relative("R_AARCH64_JUMP26", 282, signed(28)).aligned(4);
/// `BL`; beyond its range a veneer may stand in. Control-flow relocations.
pub const CALL26: RelocationRange = relative("R_AARCH64_CALL26", 283, signed(28)).aligned(4);
/// Load or store of 2 bytes after `ADRP`: scaled, so aligned. PC-relative relocations.
pub const LDST16_ABS_LO12_NC: RelocationRange =
    low_bits("R_AARCH64_LDST16_ABS_LO12_NC", 284).aligned(2);
/// Load or store of 4 bytes after `ADRP`: scaled, so aligned. PC-relative relocations.
pub const LDST32_ABS_LO12_NC: RelocationRange =
    low_bits("R_AARCH64_LDST32_ABS_LO12_NC", 285).aligned(4);
/// Load or store of 8 bytes after `ADRP`: scaled, so aligned. PC-relative relocations.
pub const LDST64_ABS_LO12_NC: RelocationRange =
    low_bits("R_AARCH64_LDST64_ABS_LO12_NC", 286).aligned(8);
/// `MOVN` or `MOVZ` of bits 0 to 15 of S + A - P. PC-relative group relocations.
pub const MOVW_PREL_G0: RelocationRange = relative("R_AARCH64_MOVW_PREL_G0", 287, signed(17));
/// `MOVK` of bits 0 to 15 of S + A - P, unchecked. PC-relative group relocations.
pub const MOVW_PREL_G0_NC: RelocationRange = relative("R_AARCH64_MOVW_PREL_G0_NC", 288, ANY);
/// `MOVN` or `MOVZ` of bits 16 to 31 of S + A - P. PC-relative group relocations.
pub const MOVW_PREL_G1: RelocationRange = relative("R_AARCH64_MOVW_PREL_G1", 289, signed(33));
/// `MOVK` of bits 16 to 31 of S + A - P, unchecked. PC-relative group relocations.
pub const MOVW_PREL_G1_NC: RelocationRange = relative("R_AARCH64_MOVW_PREL_G1_NC", 290, ANY);
/// `MOVN` or `MOVZ` of bits 32 to 47 of S + A - P. PC-relative group relocations.
pub const MOVW_PREL_G2: RelocationRange = relative("R_AARCH64_MOVW_PREL_G2", 291, signed(49));
/// `MOVK` of bits 32 to 47 of S + A - P, unchecked. PC-relative group relocations.
pub const MOVW_PREL_G2_NC: RelocationRange = relative("R_AARCH64_MOVW_PREL_G2_NC", 292, ANY);
/// `MOVN` or `MOVZ` of bits 48 to 63 of S + A - P, and with LLVM's assembler `MOVK`. PC-relative group relocations.
pub const MOVW_PREL_G3: RelocationRange = relative("R_AARCH64_MOVW_PREL_G3", 293, ANY);
/// Load or store of 16 bytes after `ADRP`: scaled, so aligned. PC-relative relocations.
pub const LDST128_ABS_LO12_NC: RelocationRange =
    low_bits("R_AARCH64_LDST128_ABS_LO12_NC", 299).aligned(16);
/// `MOVN` or `MOVZ` of bits 0 to 15 of a GOT entry's offset: the place is the GOT. GOT-relative group relocations.
pub const MOVW_GOTOFF_G0: RelocationRange = relative("R_AARCH64_MOVW_GOTOFF_G0", 300, signed(17));
/// `MOVK` of bits 0 to 15 of a GOT entry's offset, unchecked: the place is the GOT. GOT-relative group relocations.
pub const MOVW_GOTOFF_G0_NC: RelocationRange = relative("R_AARCH64_MOVW_GOTOFF_G0_NC", 301, ANY);
/// `MOVN` or `MOVZ` of bits 16 to 31 of a GOT entry's offset: the place is the GOT. GOT-relative group relocations.
pub const MOVW_GOTOFF_G1: RelocationRange = relative("R_AARCH64_MOVW_GOTOFF_G1", 302, signed(33));
/// `MOVK` of bits 16 to 31 of a GOT entry's offset, unchecked: the place is the GOT. GOT-relative group relocations.
pub const MOVW_GOTOFF_G1_NC: RelocationRange = relative("R_AARCH64_MOVW_GOTOFF_G1_NC", 303, ANY);
/// `MOVN` or `MOVZ` of bits 32 to 47 of a GOT entry's offset: the place is the GOT. GOT-relative group relocations.
pub const MOVW_GOTOFF_G2: RelocationRange = relative("R_AARCH64_MOVW_GOTOFF_G2", 304, signed(49));
/// `MOVK` of bits 32 to 47 of a GOT entry's offset, unchecked: the place is the GOT. GOT-relative group relocations.
pub const MOVW_GOTOFF_G2_NC: RelocationRange = relative("R_AARCH64_MOVW_GOTOFF_G2_NC", 305, ANY);
/// `MOVN` or `MOVZ` of bits 48 to 63 of a GOT entry's offset: the place is the GOT. GOT-relative group relocations.
pub const MOVW_GOTOFF_G3: RelocationRange = relative("R_AARCH64_MOVW_GOTOFF_G3", 306, ANY);
/// 64 bits of data, S + A - GOT: the place is the GOT. GOT-relative data relocations.
pub const GOTREL64: RelocationRange = relative("R_AARCH64_GOTREL64", 307, ANY);
/// 32 bits of data, S + A - GOT: the place is the GOT. GOT-relative data relocations.
pub const GOTREL32: RelocationRange = relative("R_AARCH64_GOTREL32", 308, signed(32));
/// Load literal of a GOT entry. GOT-relative instruction relocations.
pub const GOT_LD_PREL19: RelocationRange =
    relative("R_AARCH64_GOT_LD_PREL19", 309, signed(21)).aligned(4);
/// Load of a GOT entry from the GOT: the place is the GOT. GOT-relative instruction relocations.
pub const LD64_GOTOFF_LO15: RelocationRange =
    relative("R_AARCH64_LD64_GOTOFF_LO15", 310, unsigned(15)).aligned(8);
/// `ADRP` of a GOT entry. GOT-relative instruction relocations.
pub const ADR_GOT_PAGE: RelocationRange = page_relative("R_AARCH64_ADR_GOT_PAGE", 311, signed(33));
/// Load of a GOT entry after `ADRP`. GOT-relative instruction relocations.
pub const LD64_GOT_LO12_NC: RelocationRange =
    low_bits("R_AARCH64_LD64_GOT_LO12_NC", 312).aligned(8);
/// Load of a GOT entry from the GOT's 4 KiB page: the place is the GOT. GOT-relative instruction relocations.
pub const LD64_GOTPAGE_LO15: RelocationRange =
    from_page("R_AARCH64_LD64_GOTPAGE_LO15", 313, unsigned(15)).aligned(8);
/// 32 bits of data, the distance to a function or its stub. Data relocations.
pub const PLT32: RelocationRange = relative("R_AARCH64_PLT32", 314, signed(32));
/// 32 bits of data, the distance to a GOT entry. Data relocations.
pub const GOTPCREL32: RelocationRange = relative("R_AARCH64_GOTPCREL32", 315, signed(32));
/// `ADR` of a module and offset pair. General Dynamic TLS relocations.
pub const TLSGD_ADR_PREL21: RelocationRange =
    relative("R_AARCH64_TLSGD_ADR_PREL21", 512, signed(21));
/// `ADRP` of a module and offset pair. General Dynamic TLS relocations.
pub const TLSGD_ADR_PAGE21: RelocationRange =
    page_relative("R_AARCH64_TLSGD_ADR_PAGE21", 513, signed(33));
/// `ADD` after `ADRP`. General Dynamic TLS relocations.
pub const TLSGD_ADD_LO12_NC: RelocationRange = low_bits("R_AARCH64_TLSGD_ADD_LO12_NC", 514);
/// `MOVN` or `MOVZ` of bits 16 to 31 of a pair's offset in the GOT: the place is the GOT. General Dynamic TLS relocations.
pub const TLSGD_MOVW_G1: RelocationRange = relative("R_AARCH64_TLSGD_MOVW_G1", 515, signed(33));
/// `MOVK` of bits 0 to 15 of a pair's offset in the GOT, unchecked: the place is the GOT. General Dynamic TLS relocations.
pub const TLSGD_MOVW_G0_NC: RelocationRange = relative("R_AARCH64_TLSGD_MOVW_G0_NC", 516, ANY);
/// `ADR` of the module's entry. Local Dynamic TLS relocations.
pub const TLSLD_ADR_PREL21: RelocationRange =
    relative("R_AARCH64_TLSLD_ADR_PREL21", 517, signed(21));
/// `ADRP` of the module's entry. Local Dynamic TLS relocations.
pub const TLSLD_ADR_PAGE21: RelocationRange =
    page_relative("R_AARCH64_TLSLD_ADR_PAGE21", 518, signed(33));
/// `ADD` after `ADRP`. Local Dynamic TLS relocations.
pub const TLSLD_ADD_LO12_NC: RelocationRange = low_bits("R_AARCH64_TLSLD_ADD_LO12_NC", 519);
/// `MOVN` or `MOVZ` of bits 16 to 31 of the module's entry's offset in the GOT: the place is the GOT. Local Dynamic TLS relocations.
pub const TLSLD_MOVW_G1: RelocationRange = relative("R_AARCH64_TLSLD_MOVW_G1", 520, signed(33));
/// `MOVK` of bits 0 to 15 of the module's entry's offset in the GOT, unchecked: the place is the GOT. Local Dynamic TLS relocations.
pub const TLSLD_MOVW_G0_NC: RelocationRange = relative("R_AARCH64_TLSLD_MOVW_G0_NC", 521, ANY);
/// Load literal of the module's entry. Local Dynamic TLS relocations.
pub const TLSLD_LD_PREL19: RelocationRange =
    relative("R_AARCH64_TLSLD_LD_PREL19", 522, signed(21)).aligned(4);
/// `MOVN` or `MOVZ` of bits 32 to 47 of the DTPREL. Local Dynamic TLS relocations.
pub const TLSLD_MOVW_DTPREL_G2: RelocationRange =
    absolute("R_AARCH64_TLSLD_MOVW_DTPREL_G2", 523, signed(49));
/// `MOVN` or `MOVZ` of bits 16 to 31 of the DTPREL. Local Dynamic TLS relocations.
pub const TLSLD_MOVW_DTPREL_G1: RelocationRange =
    absolute("R_AARCH64_TLSLD_MOVW_DTPREL_G1", 524, signed(33));
/// `MOVK` of bits 16 to 31 of the DTPREL, unchecked. Local Dynamic TLS relocations.
pub const TLSLD_MOVW_DTPREL_G1_NC: RelocationRange =
    absolute("R_AARCH64_TLSLD_MOVW_DTPREL_G1_NC", 525, ANY);
/// `MOVN` or `MOVZ` of bits 0 to 15 of the DTPREL. Local Dynamic TLS relocations.
pub const TLSLD_MOVW_DTPREL_G0: RelocationRange =
    absolute("R_AARCH64_TLSLD_MOVW_DTPREL_G0", 526, signed(17));
/// `MOVK` of bits 0 to 15 of the DTPREL, unchecked. Local Dynamic TLS relocations.
pub const TLSLD_MOVW_DTPREL_G0_NC: RelocationRange =
    absolute("R_AARCH64_TLSLD_MOVW_DTPREL_G0_NC", 527, ANY);
/// `ADD` of bits 12 to 23 of the DTPREL. Local Dynamic TLS relocations.
pub const TLSLD_ADD_DTPREL_HI12: RelocationRange =
    absolute("R_AARCH64_TLSLD_ADD_DTPREL_HI12", 528, unsigned(24));
/// `ADD` of all of a small DTPREL. Local Dynamic TLS relocations.
pub const TLSLD_ADD_DTPREL_LO12: RelocationRange =
    absolute("R_AARCH64_TLSLD_ADD_DTPREL_LO12", 529, unsigned(12));
/// `ADD` of the low 12 bits of the DTPREL. Local Dynamic TLS relocations.
pub const TLSLD_ADD_DTPREL_LO12_NC: RelocationRange =
    low_bits("R_AARCH64_TLSLD_ADD_DTPREL_LO12_NC", 530);
/// Load or store of 1 byte at a small DTPREL. Local Dynamic TLS relocations.
pub const TLSLD_LDST8_DTPREL_LO12: RelocationRange =
    absolute("R_AARCH64_TLSLD_LDST8_DTPREL_LO12", 531, unsigned(12));
/// Load or store of 1 byte at the low 12 bits of the DTPREL. Local Dynamic TLS relocations.
pub const TLSLD_LDST8_DTPREL_LO12_NC: RelocationRange =
    low_bits("R_AARCH64_TLSLD_LDST8_DTPREL_LO12_NC", 532);
/// Load or store of 2 bytes at a small DTPREL. Local Dynamic TLS relocations.
pub const TLSLD_LDST16_DTPREL_LO12: RelocationRange =
    absolute("R_AARCH64_TLSLD_LDST16_DTPREL_LO12", 533, unsigned(12)).aligned(2);
/// Load or store of 2 bytes at the low 12 bits of the DTPREL. Local Dynamic TLS relocations.
pub const TLSLD_LDST16_DTPREL_LO12_NC: RelocationRange =
    low_bits("R_AARCH64_TLSLD_LDST16_DTPREL_LO12_NC", 534).aligned(2);
/// Load or store of 4 bytes at a small DTPREL. Local Dynamic TLS relocations.
pub const TLSLD_LDST32_DTPREL_LO12: RelocationRange =
    absolute("R_AARCH64_TLSLD_LDST32_DTPREL_LO12", 535, unsigned(12)).aligned(4);
/// Load or store of 4 bytes at the low 12 bits of the DTPREL. Local Dynamic TLS relocations.
pub const TLSLD_LDST32_DTPREL_LO12_NC: RelocationRange =
    low_bits("R_AARCH64_TLSLD_LDST32_DTPREL_LO12_NC", 536).aligned(4);
/// Load or store of 8 bytes at a small DTPREL. Local Dynamic TLS relocations.
pub const TLSLD_LDST64_DTPREL_LO12: RelocationRange =
    absolute("R_AARCH64_TLSLD_LDST64_DTPREL_LO12", 537, unsigned(12)).aligned(8);
/// Load or store of 8 bytes at the low 12 bits of the DTPREL. Local Dynamic TLS relocations.
pub const TLSLD_LDST64_DTPREL_LO12_NC: RelocationRange =
    low_bits("R_AARCH64_TLSLD_LDST64_DTPREL_LO12_NC", 538).aligned(8);
/// `MOVN` or `MOVZ` of bits 16 to 31 of the offset in the GOT of the entry that holds the TPREL: the place is the GOT. Initial Exec TLS relocations.
pub const TLSIE_MOVW_GOTTPREL_G1: RelocationRange =
    relative("R_AARCH64_TLSIE_MOVW_GOTTPREL_G1", 539, signed(33));
/// `MOVK` of bits 0 to 15 of that offset, unchecked: the place is the GOT. Initial Exec TLS relocations.
pub const TLSIE_MOVW_GOTTPREL_G0_NC: RelocationRange =
    relative("R_AARCH64_TLSIE_MOVW_GOTTPREL_G0_NC", 540, ANY);
/// `ADRP` of the GOT entry that holds the TPREL. Initial Exec TLS relocations.
pub const TLSIE_ADR_GOTTPREL_PAGE21: RelocationRange =
    page_relative("R_AARCH64_TLSIE_ADR_GOTTPREL_PAGE21", 541, signed(33));
/// Load of that entry after `ADRP`. Initial Exec TLS relocations.
pub const TLSIE_LD64_GOTTPREL_LO12_NC: RelocationRange =
    low_bits("R_AARCH64_TLSIE_LD64_GOTTPREL_LO12_NC", 542).aligned(8);
/// Load literal of that entry. Initial Exec TLS relocations.
pub const TLSIE_LD_GOTTPREL_PREL19: RelocationRange =
    relative("R_AARCH64_TLSIE_LD_GOTTPREL_PREL19", 543, signed(21)).aligned(4);
/// `MOVN` or `MOVZ` of bits 32 to 47 of the TPREL. Local Exec TLS relocations.
pub const TLSLE_MOVW_TPREL_G2: RelocationRange =
    absolute("R_AARCH64_TLSLE_MOVW_TPREL_G2", 544, signed(49));
/// `MOVN` or `MOVZ` of bits 16 to 31 of the TPREL. Local Exec TLS relocations.
pub const TLSLE_MOVW_TPREL_G1: RelocationRange =
    absolute("R_AARCH64_TLSLE_MOVW_TPREL_G1", 545, signed(33));
/// `MOVK` of bits 16 to 31 of the TPREL, unchecked. Local Exec TLS relocations.
pub const TLSLE_MOVW_TPREL_G1_NC: RelocationRange =
    absolute("R_AARCH64_TLSLE_MOVW_TPREL_G1_NC", 546, ANY);
/// `MOVN` or `MOVZ` of bits 0 to 15 of the TPREL. Local Exec TLS relocations.
pub const TLSLE_MOVW_TPREL_G0: RelocationRange =
    absolute("R_AARCH64_TLSLE_MOVW_TPREL_G0", 547, signed(17));
/// `MOVK` of bits 0 to 15 of the TPREL, unchecked. Local Exec TLS relocations.
pub const TLSLE_MOVW_TPREL_G0_NC: RelocationRange =
    absolute("R_AARCH64_TLSLE_MOVW_TPREL_G0_NC", 548, ANY);
/// `ADD` of bits 12 to 23 of the TPREL. Local Exec TLS relocations.
pub const TLSLE_ADD_TPREL_HI12: RelocationRange =
    absolute("R_AARCH64_TLSLE_ADD_TPREL_HI12", 549, unsigned(24));
/// `ADD` of all of a small TPREL. Local Exec TLS relocations.
pub const TLSLE_ADD_TPREL_LO12: RelocationRange =
    absolute("R_AARCH64_TLSLE_ADD_TPREL_LO12", 550, unsigned(12));
/// `ADD` of the low 12 bits of the TPREL. Local Exec TLS relocations.
pub const TLSLE_ADD_TPREL_LO12_NC: RelocationRange =
    low_bits("R_AARCH64_TLSLE_ADD_TPREL_LO12_NC", 551);
/// Load or store of 1 byte at a small TPREL. Local Exec TLS relocations.
pub const TLSLE_LDST8_TPREL_LO12: RelocationRange =
    absolute("R_AARCH64_TLSLE_LDST8_TPREL_LO12", 552, unsigned(12));
/// Load or store of 1 byte at the low 12 bits of the TPREL. Local Exec TLS relocations.
pub const TLSLE_LDST8_TPREL_LO12_NC: RelocationRange =
    low_bits("R_AARCH64_TLSLE_LDST8_TPREL_LO12_NC", 553);
/// Load or store of 2 bytes at a small TPREL. Local Exec TLS relocations.
pub const TLSLE_LDST16_TPREL_LO12: RelocationRange =
    absolute("R_AARCH64_TLSLE_LDST16_TPREL_LO12", 554, unsigned(12)).aligned(2);
/// Load or store of 2 bytes at the low 12 bits of the TPREL. Local Exec TLS relocations.
pub const TLSLE_LDST16_TPREL_LO12_NC: RelocationRange =
    low_bits("R_AARCH64_TLSLE_LDST16_TPREL_LO12_NC", 555).aligned(2);
/// Load or store of 4 bytes at a small TPREL. Local Exec TLS relocations.
pub const TLSLE_LDST32_TPREL_LO12: RelocationRange =
    absolute("R_AARCH64_TLSLE_LDST32_TPREL_LO12", 556, unsigned(12)).aligned(4);
/// Load or store of 4 bytes at the low 12 bits of the TPREL. Local Exec TLS relocations.
pub const TLSLE_LDST32_TPREL_LO12_NC: RelocationRange =
    low_bits("R_AARCH64_TLSLE_LDST32_TPREL_LO12_NC", 557).aligned(4);
/// Load or store of 8 bytes at a small TPREL. Local Exec TLS relocations.
pub const TLSLE_LDST64_TPREL_LO12: RelocationRange =
    absolute("R_AARCH64_TLSLE_LDST64_TPREL_LO12", 558, unsigned(12)).aligned(8);
/// Load or store of 8 bytes at the low 12 bits of the TPREL. Local Exec TLS relocations.
pub const TLSLE_LDST64_TPREL_LO12_NC: RelocationRange =
    low_bits("R_AARCH64_TLSLE_LDST64_TPREL_LO12_NC", 559).aligned(8);
/// Load literal of a descriptor. TLS descriptor relocations.
pub const TLSDESC_LD_PREL19: RelocationRange =
    relative("R_AARCH64_TLSDESC_LD_PREL19", 560, signed(21)).aligned(4);
/// `ADR` of a descriptor. TLS descriptor relocations.
pub const TLSDESC_ADR_PREL21: RelocationRange =
    relative("R_AARCH64_TLSDESC_ADR_PREL21", 561, signed(21));
/// `ADRP` of a descriptor. TLS descriptor relocations.
pub const TLSDESC_ADR_PAGE21: RelocationRange =
    page_relative("R_AARCH64_TLSDESC_ADR_PAGE21", 562, signed(33));
/// Load of a descriptor's function after `ADRP`, unchecked. TLS descriptor relocations.
pub const TLSDESC_LD64_LO12: RelocationRange =
    low_bits("R_AARCH64_TLSDESC_LD64_LO12", 563).aligned(8);
/// `ADD` after `ADRP`, unchecked. TLS descriptor relocations.
pub const TLSDESC_ADD_LO12: RelocationRange = low_bits("R_AARCH64_TLSDESC_ADD_LO12", 564);
/// `MOVN` or `MOVZ` of bits 16 to 31 of a descriptor's offset in the GOT: the place is the GOT. TLS descriptor relocations.
pub const TLSDESC_OFF_G1: RelocationRange = relative("R_AARCH64_TLSDESC_OFF_G1", 565, signed(33));
/// `MOVK` of bits 0 to 15 of a descriptor's offset in the GOT, unchecked: the place is the GOT. TLS descriptor relocations.
pub const TLSDESC_OFF_G0_NC: RelocationRange = relative("R_AARCH64_TLSDESC_OFF_G0_NC", 566, ANY);
/// Load or store of 16 bytes at a small TPREL. Local Exec TLS relocations.
pub const TLSLE_LDST128_TPREL_LO12: RelocationRange =
    absolute("R_AARCH64_TLSLE_LDST128_TPREL_LO12", 570, unsigned(12)).aligned(16);
/// Load or store of 16 bytes at the low 12 bits of the TPREL. Local Exec TLS relocations.
pub const TLSLE_LDST128_TPREL_LO12_NC: RelocationRange =
    low_bits("R_AARCH64_TLSLE_LDST128_TPREL_LO12_NC", 571).aligned(16);
/// Load or store of 16 bytes at a small DTPREL. Local Dynamic TLS relocations.
pub const TLSLD_LDST128_DTPREL_LO12: RelocationRange =
    absolute("R_AARCH64_TLSLD_LDST128_DTPREL_LO12", 572, unsigned(12)).aligned(16);
/// Load or store of 16 bytes at the low 12 bits of the DTPREL. Local Dynamic TLS relocations.
pub const TLSLD_LDST128_DTPREL_LO12_NC: RelocationRange =
    low_bits("R_AARCH64_TLSLD_LDST128_DTPREL_LO12_NC", 573).aligned(16);

/// Every row above, ascending by number.
pub const TABLE: &[RelocationRange] = &[
    ABS64,
    ABS32,
    ABS16,
    PREL64,
    PREL32,
    PREL16,
    MOVW_UABS_G0,
    MOVW_UABS_G0_NC,
    MOVW_UABS_G1,
    MOVW_UABS_G1_NC,
    MOVW_UABS_G2,
    MOVW_UABS_G2_NC,
    MOVW_UABS_G3,
    MOVW_SABS_G0,
    MOVW_SABS_G1,
    MOVW_SABS_G2,
    LD_PREL_LO19,
    ADR_PREL_LO21,
    ADR_PREL_PG_HI21,
    ADR_PREL_PG_HI21_NC,
    ADD_ABS_LO12_NC,
    LDST8_ABS_LO12_NC,
    TSTBR14,
    CONDBR19,
    JUMP26,
    CALL26,
    LDST16_ABS_LO12_NC,
    LDST32_ABS_LO12_NC,
    LDST64_ABS_LO12_NC,
    MOVW_PREL_G0,
    MOVW_PREL_G0_NC,
    MOVW_PREL_G1,
    MOVW_PREL_G1_NC,
    MOVW_PREL_G2,
    MOVW_PREL_G2_NC,
    MOVW_PREL_G3,
    LDST128_ABS_LO12_NC,
    MOVW_GOTOFF_G0,
    MOVW_GOTOFF_G0_NC,
    MOVW_GOTOFF_G1,
    MOVW_GOTOFF_G1_NC,
    MOVW_GOTOFF_G2,
    MOVW_GOTOFF_G2_NC,
    MOVW_GOTOFF_G3,
    GOTREL64,
    GOTREL32,
    GOT_LD_PREL19,
    LD64_GOTOFF_LO15,
    ADR_GOT_PAGE,
    LD64_GOT_LO12_NC,
    LD64_GOTPAGE_LO15,
    PLT32,
    GOTPCREL32,
    TLSGD_ADR_PREL21,
    TLSGD_ADR_PAGE21,
    TLSGD_ADD_LO12_NC,
    TLSGD_MOVW_G1,
    TLSGD_MOVW_G0_NC,
    TLSLD_ADR_PREL21,
    TLSLD_ADR_PAGE21,
    TLSLD_ADD_LO12_NC,
    TLSLD_MOVW_G1,
    TLSLD_MOVW_G0_NC,
    TLSLD_LD_PREL19,
    TLSLD_MOVW_DTPREL_G2,
    TLSLD_MOVW_DTPREL_G1,
    TLSLD_MOVW_DTPREL_G1_NC,
    TLSLD_MOVW_DTPREL_G0,
    TLSLD_MOVW_DTPREL_G0_NC,
    TLSLD_ADD_DTPREL_HI12,
    TLSLD_ADD_DTPREL_LO12,
    TLSLD_ADD_DTPREL_LO12_NC,
    TLSLD_LDST8_DTPREL_LO12,
    TLSLD_LDST8_DTPREL_LO12_NC,
    TLSLD_LDST16_DTPREL_LO12,
    TLSLD_LDST16_DTPREL_LO12_NC,
    TLSLD_LDST32_DTPREL_LO12,
    TLSLD_LDST32_DTPREL_LO12_NC,
    TLSLD_LDST64_DTPREL_LO12,
    TLSLD_LDST64_DTPREL_LO12_NC,
    TLSIE_MOVW_GOTTPREL_G1,
    TLSIE_MOVW_GOTTPREL_G0_NC,
    TLSIE_ADR_GOTTPREL_PAGE21,
    TLSIE_LD64_GOTTPREL_LO12_NC,
    TLSIE_LD_GOTTPREL_PREL19,
    TLSLE_MOVW_TPREL_G2,
    TLSLE_MOVW_TPREL_G1,
    TLSLE_MOVW_TPREL_G1_NC,
    TLSLE_MOVW_TPREL_G0,
    TLSLE_MOVW_TPREL_G0_NC,
    TLSLE_ADD_TPREL_HI12,
    TLSLE_ADD_TPREL_LO12,
    TLSLE_ADD_TPREL_LO12_NC,
    TLSLE_LDST8_TPREL_LO12,
    TLSLE_LDST8_TPREL_LO12_NC,
    TLSLE_LDST16_TPREL_LO12,
    TLSLE_LDST16_TPREL_LO12_NC,
    TLSLE_LDST32_TPREL_LO12,
    TLSLE_LDST32_TPREL_LO12_NC,
    TLSLE_LDST64_TPREL_LO12,
    TLSLE_LDST64_TPREL_LO12_NC,
    TLSDESC_LD_PREL19,
    TLSDESC_ADR_PREL21,
    TLSDESC_ADR_PAGE21,
    TLSDESC_LD64_LO12,
    TLSDESC_ADD_LO12,
    TLSDESC_OFF_G1,
    TLSDESC_OFF_G0_NC,
    TLSLE_LDST128_TPREL_LO12,
    TLSLE_LDST128_TPREL_LO12_NC,
    TLSLD_LDST128_DTPREL_LO12,
    TLSLD_LDST128_DTPREL_LO12_NC,
];
/// The range of the AArch64 relocation type `number`; `None` if it has no row here.
pub fn range(number: u32) -> Option<&'static RelocationRange> {
    find(TABLE, number)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Ends, check_table};

    // By hand from aaelf64's tables: numbers, first, last, step.
    const ENDS: &[Ends] = &[
        (&[258], -0x8000_0000, 0xffff_ffff, 1),
        (&[259], -0x8000, 0xffff, 1),
        (&[261, 308, 314, 315], -0x8000_0000, 0x7fff_ffff, 1),
        (&[262], -0x8000, 0x7fff, 1),
        (&[263], 0, 0xffff, 1),
        (&[265], 0, 0xffff_ffff, 1),
        (&[267], 0, 0xffff_ffff_ffff, 1),
        (&[270, 287, 300, 526, 547], -0x1_0000, 0xffff, 1),
        (
            &[271, 289, 302, 515, 520, 524, 539, 545, 565],
            -0x1_0000_0000,
            0xffff_ffff,
            1,
        ),
        (
            &[272, 291, 304, 523, 544],
            -0x1_0000_0000_0000,
            0xffff_ffff_ffff,
            1,
        ),
        (&[273, 280, 309, 522, 543, 560], -0x10_0000, 0xf_fffc, 4),
        (&[274, 512, 517, 561], -0x10_0000, 0xf_ffff, 1),
        (
            &[275, 311, 513, 518, 541, 562],
            -0x1_0000_0000,
            0xffff_f000,
            0x1000,
        ),
        (&[279], -0x8000, 0x7ffc, 4),
        (&[282, 283], -0x800_0000, 0x7ff_fffc, 4),
        (&[310, 313], 0, 0x7ff8, 8),
        (&[528, 549], 0, 0xff_ffff, 1),
        (&[529, 531, 550, 552], 0, 0xfff, 1),
        (&[533, 554], 0, 0xffe, 2),
        (&[535, 556], 0, 0xffc, 4),
        (&[537, 558], 0, 0xff8, 8),
        (&[570, 572], 0, 0xff0, 16),
    ];

    const UNCHECKED: &[(&[u32], i64)] = &[
        (&[257, 260, 307], 1),
        (&[264, 266, 268, 269, 288, 290, 292, 293, 546, 548], 1),
        (&[301, 303, 305, 306, 516, 521, 525, 527, 540, 566], 1),
        (&[276, 277, 278, 514, 519, 530, 532, 551, 553, 564], 1),
        (&[284, 534, 555], 2),
        (&[285, 536, 557], 4),
        (&[286, 312, 538, 542, 559, 563], 8),
        (&[299, 571, 573], 16),
    ];

    #[test]
    fn every_row_is_exact_at_both_ends() {
        check_table(super::TABLE, "R_AARCH64_", ENDS, UNCHECKED);
    }

    #[test]
    fn a_got_entry_counts_from_the_page_of_the_got() {
        let row = super::LD64_GOTPAGE_LO15;
        assert_eq!(row.check(0x1_2ff8, 0x1_3000), Ok(0x1000));
        assert!(row.check(0x1_2ff8, 0x1_9ff8).is_ok());
        assert!(row.check(0x1_2ff8, 0x1_a000).is_err());
    }
}
