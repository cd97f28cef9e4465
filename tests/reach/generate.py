#!/usr/bin/env python3
"""Asks linkers how far relocations reach, and writes their answers to `answers.txt`, which `tests/reach_table.rs` compares with
the tables in `src/reach/`. Run by hand, from anywhere, when a row or a linker is new:

    apt-get install binutils binutils-aarch64-linux-gnu lld-14 lld-22
    python3 tests/reach/generate.py > tests/reach/answers.txt

For each relocation the rows below say, in the ABIs' words, the first and the last X and the step between two. X and its
neighbours are then brought about, one in each link: by an absolute symbol, by an addend, or by the place that a linker script
gives to the GOT. An answer is

    yes      the linked field is exactly the encoding of X
    no       the linker says that X is out of range or misaligned
    other    the linker links, but has put something else into the field: the way to a veneer
    -        the linker does not know the relocation, or its GOT cannot have an entry there

`place` and `target` are what `RelocationRange::check` takes. Needs nothing but Python 3.9.
"""

import concurrent.futures
import os
import re
import struct
import subprocess
import sys
import tempfile

LINKERS = [("ld", {"X86_64": "ld", "AARCH64": "aarch64-linux-gnu-ld"}), ("lld-14", "ld.lld-14"), ("lld-22", "ld.lld-22")]

PLACE = 0x40_0000_0000_0000  # Far from both ends of the address space; the start of a page, as .text is.
ALL = (-(1 << 63), (1 << 63) - 1)


def signed(bits):
    return -(1 << bits - 1), (1 << bits - 1) - 1


def unsigned(bits):
    return 0, (1 << bits) - 1


def wrapped(number):
    """As a signed number of 64 bits, as addends are."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def either(bits):
    return -(1 << bits - 1), (1 << bits) - 1


# --- Fields: how X is encoded. ---


def data(size):
    return lambda x: (x & (1 << 8 * size) - 1).to_bytes(size, "little")


def instruction(word, insert):
    return lambda x: struct.pack("<I", insert(word, x))


def bits(word, at, width, shift):
    return instruction(word, lambda w, x: w | (x >> shift & (1 << width) - 1) << at)


def adr(word, shift):
    return instruction(word, lambda w, x: w | (x >> shift & 3) << 29 | (x >> shift + 2 & 0x7FFFF) << 5)


def movw_signed(shift):
    movn, movz = 0x92800000, 0xD2800000
    group = shift // 16 << 21
    return instruction(group, lambda w, x: w | (movz if x >= 0 else movn) | ((x if x >= 0 else ~x) >> shift & 0xFFFF) << 5)


def movz(shift):
    return bits(0xD2800000 | shift // 16 << 21, 5, 16, shift)


def movk(shift):
    return bits(0xF2800000 | shift // 16 << 21, 5, 16, shift)


BYTE, HALF, WORD, QUAD = data(1), data(2), data(4), data(8)
ADR, ADRP, ADD = adr(0x10000000, 0), adr(0x90000000, 12), bits(0x91000000, 10, 12, 0)
LITERAL, CBZ, TBZ = bits(0x58000000, 5, 19, 2), bits(0xB4000000, 5, 19, 2), bits(0x36000000, 5, 14, 2)
BRANCH, CALL = bits(0x14000000, 0, 26, 2), bits(0x94000000, 0, 26, 2)
LOADS = {1: 0x39400000, 2: 0x79400000, 4: 0xB9400000, 8: 0xF9400000, 16: 0x3DC00000}


def load(size):
    return bits(LOADS[size], 10, 12, size.bit_length() - 1)


# --- Rows: name, number, how X is brought about, field, (first, last), step. ---

X86_64 = [
    ("64", 1, "absolute", QUAD, ALL, 1),
    ("PC32", 2, "relative", WORD, signed(32), 1),
    ("GOT32", 3, "got offset", WORD, signed(32), 1),
    ("PLT32", 4, "relative", WORD, signed(32), 1),
    ("GOTPCREL", 9, "got", WORD, signed(32), 1),
    ("32", 10, "absolute", WORD, unsigned(32), 1),
    ("32S", 11, "absolute", WORD, signed(32), 1),
    ("16", 12, "absolute", HALF, either(16), 1),
    ("PC16", 13, "relative", HALF, signed(16), 1),
    ("8", 14, "absolute", BYTE, either(8), 1),
    ("PC8", 15, "relative", BYTE, signed(8), 1),
    ("DTPOFF64", 17, "tls offset shared", QUAD, ALL, 1),
    ("TPOFF64", 18, "tls offset", QUAD, ALL, 1),
    ("TLSGD", 19, "tls got shared", WORD, signed(32), 1),
    ("TLSLD", 20, "tls got shared", WORD, signed(32), 1),
    ("DTPOFF32", 21, "tls offset shared", WORD, signed(32), 1),
    ("GOTTPOFF", 22, "tls got shared", WORD, signed(32), 1),
    ("TPOFF32", 23, "tls offset", WORD, signed(32), 1),
    ("PC64", 24, "relative", QUAD, ALL, 1),
    ("GOTOFF64", 25, "from got", QUAD, ALL, 1),
    ("GOTPC32", 26, "got", WORD, signed(32), 1),
    ("GOT64", 27, "got offset", QUAD, ALL, 1),
    ("GOTPCREL64", 28, "got", QUAD, ALL, 1),
    ("GOTPC64", 29, "got", QUAD, ALL, 1),
    ("GOTPLT64", 30, "got offset", QUAD, ALL, 1),
    ("PLTOFF64", 31, "from got", QUAD, ALL, 1),
    ("SIZE32", 32, "size", WORD, either(32), 1),
    ("SIZE64", 33, "size", QUAD, ALL, 1),
    ("GOTPC32_TLSDESC", 34, "tls got shared", WORD, signed(32), 1),
    ("GOTPCRELX", 41, "got", WORD, signed(32), 1),
    ("REX_GOTPCRELX", 42, "got", WORD, signed(32), 1),
    ("CODE_4_GOTPCRELX", 43, "got", WORD, signed(32), 1),
    ("CODE_4_GOTTPOFF", 44, "tls got shared", WORD, signed(32), 1),
    ("CODE_4_GOTPC32_TLSDESC", 45, "tls got shared", WORD, signed(32), 1),
    ("CODE_5_GOTPCRELX", 46, "got", WORD, signed(32), 1),
    ("CODE_5_GOTTPOFF", 47, "tls got shared", WORD, signed(32), 1),
    ("CODE_5_GOTPC32_TLSDESC", 48, "tls got shared", WORD, signed(32), 1),
    ("CODE_6_GOTPCRELX", 49, "got", WORD, signed(32), 1),
    ("CODE_6_GOTTPOFF", 50, "tls got shared", WORD, signed(32), 1),
    ("CODE_6_GOTPC32_TLSDESC", 51, "tls got shared", WORD, signed(32), 1),
]

AARCH64 = [
    ("ABS64", 257, "absolute", QUAD, ALL, 1),
    ("ABS32", 258, "absolute", WORD, either(32), 1),
    ("ABS16", 259, "absolute", HALF, either(16), 1),
    ("PREL64", 260, "relative", QUAD, ALL, 1),
    ("PREL32", 261, "relative", WORD, signed(32), 1),
    ("PREL16", 262, "relative", HALF, signed(16), 1),
    ("MOVW_UABS_G0", 263, "absolute", movz(0), unsigned(16), 1),
    ("MOVW_UABS_G0_NC", 264, "absolute", movk(0), ALL, 1),
    ("MOVW_UABS_G1", 265, "absolute", movz(16), unsigned(32), 1),
    ("MOVW_UABS_G1_NC", 266, "absolute", movk(16), ALL, 1),
    ("MOVW_UABS_G2", 267, "absolute", movz(32), unsigned(48), 1),
    ("MOVW_UABS_G2_NC", 268, "absolute", movk(32), ALL, 1),
    ("MOVW_UABS_G3", 269, "absolute", movz(48), ALL, 1),
    ("MOVW_SABS_G0", 270, "absolute", movw_signed(0), signed(17), 1),
    ("MOVW_SABS_G1", 271, "absolute", movw_signed(16), signed(33), 1),
    ("MOVW_SABS_G2", 272, "absolute", movw_signed(32), signed(49), 1),
    ("LD_PREL_LO19", 273, "relative", LITERAL, signed(21), 4),
    ("ADR_PREL_LO21", 274, "relative", ADR, signed(21), 1),
    ("ADR_PREL_PG_HI21", 275, "page", ADRP, signed(33), 0x1000),
    ("ADR_PREL_PG_HI21_NC", 276, "page", ADRP, ALL, 0x1000),
    ("ADD_ABS_LO12_NC", 277, "low", ADD, ALL, 1),
    ("LDST8_ABS_LO12_NC", 278, "low", load(1), ALL, 1),
    ("TSTBR14", 279, "relative", TBZ, signed(16), 4),
    ("CONDBR19", 280, "relative", CBZ, signed(21), 4),
    ("JUMP26", 282, "relative", BRANCH, signed(28), 4),
    ("CALL26", 283, "relative", CALL, signed(28), 4),
    ("LDST16_ABS_LO12_NC", 284, "low", load(2), ALL, 2),
    ("LDST32_ABS_LO12_NC", 285, "low", load(4), ALL, 4),
    ("LDST64_ABS_LO12_NC", 286, "low", load(8), ALL, 8),
    ("MOVW_PREL_G0", 287, "relative", movw_signed(0), signed(17), 1),
    ("MOVW_PREL_G0_NC", 288, "relative", movk(0), ALL, 1),
    ("MOVW_PREL_G1", 289, "relative", movw_signed(16), signed(33), 1),
    ("MOVW_PREL_G1_NC", 290, "relative", movk(16), ALL, 1),
    ("MOVW_PREL_G2", 291, "relative", movw_signed(32), signed(49), 1),
    ("MOVW_PREL_G2_NC", 292, "relative", movk(32), ALL, 1),
    ("MOVW_PREL_G3", 293, "relative", movw_signed(48), ALL, 1),
    ("LDST128_ABS_LO12_NC", 299, "low", load(16), ALL, 16),
    ("MOVW_GOTOFF_G0", 300, "slot of many", movw_signed(0), signed(17), 1),
    ("MOVW_GOTOFF_G0_NC", 301, "slot of many", movk(0), ALL, 1),
    ("MOVW_GOTOFF_G1", 302, "slot of many", movw_signed(16), signed(33), 1),
    ("MOVW_GOTOFF_G1_NC", 303, "slot of many", movk(16), ALL, 1),
    ("MOVW_GOTOFF_G2", 304, "slot of many", movw_signed(32), signed(49), 1),
    ("MOVW_GOTOFF_G2_NC", 305, "slot of many", movk(32), ALL, 1),
    ("MOVW_GOTOFF_G3", 306, "slot of many", movw_signed(48), ALL, 1),
    ("GOTREL64", 307, "from got", QUAD, ALL, 1),
    ("GOTREL32", 308, "from got", WORD, signed(32), 1),
    ("GOT_LD_PREL19", 309, "slot", LITERAL, signed(21), 4),
    ("LD64_GOTOFF_LO15", 310, "slot of many", load(8), unsigned(15), 8),
    ("ADR_GOT_PAGE", 311, "slot page", ADRP, signed(33), 0x1000),
    ("LD64_GOT_LO12_NC", 312, "slot low", load(8), ALL, 8),
    ("LD64_GOTPAGE_LO15", 313, "slot of many", load(8), unsigned(15), 8),
    ("PLT32", 314, "relative", WORD, signed(32), 1),
    ("GOTPCREL32", 315, "got", WORD, signed(32), 1),
    ("TLSGD_ADR_PREL21", 512, "tls slot shared", ADR, signed(21), 1),
    ("TLSGD_ADR_PAGE21", 513, "tls slot page shared", ADRP, signed(33), 0x1000),
    ("TLSGD_ADD_LO12_NC", 514, "tls slot low shared", ADD, ALL, 1),
    ("TLSGD_MOVW_G1", 515, "tls group of slots shared", movw_signed(16), signed(33), 1),
    ("TLSGD_MOVW_G0_NC", 516, "tls group of slots shared", movk(0), ALL, 1),
    ("TLSLD_ADR_PREL21", 517, "tls slot shared", ADR, signed(21), 1),
    ("TLSLD_ADR_PAGE21", 518, "tls slot page shared", ADRP, signed(33), 0x1000),
    ("TLSLD_ADD_LO12_NC", 519, "tls slot low shared", ADD, ALL, 1),
    ("TLSLD_MOVW_G1", 520, "tls group of slots shared", movw_signed(16), signed(33), 1),
    ("TLSLD_MOVW_G0_NC", 521, "tls group of slots shared", movk(0), ALL, 1),
    ("TLSLD_LD_PREL19", 522, "tls slot shared", LITERAL, signed(21), 4),
    ("TLSLD_MOVW_DTPREL_G2", 523, "tls offset shared", movw_signed(32), signed(49), 1),
    ("TLSLD_MOVW_DTPREL_G1", 524, "tls offset shared", movw_signed(16), signed(33), 1),
    ("TLSLD_MOVW_DTPREL_G1_NC", 525, "tls offset shared", movk(16), ALL, 1),
    ("TLSLD_MOVW_DTPREL_G0", 526, "tls offset shared", movw_signed(0), signed(17), 1),
    ("TLSLD_MOVW_DTPREL_G0_NC", 527, "tls offset shared", movk(0), ALL, 1),
    ("TLSLD_ADD_DTPREL_HI12", 528, "tls offset shared", bits(0x91400000, 10, 12, 12), unsigned(24), 1),
    ("TLSLD_ADD_DTPREL_LO12", 529, "tls offset shared", ADD, unsigned(12), 1),
    ("TLSLD_ADD_DTPREL_LO12_NC", 530, "tls low shared", ADD, ALL, 1),
    ("TLSLD_LDST8_DTPREL_LO12", 531, "tls offset shared", load(1), unsigned(12), 1),
    ("TLSLD_LDST8_DTPREL_LO12_NC", 532, "tls low shared", load(1), ALL, 1),
    ("TLSLD_LDST16_DTPREL_LO12", 533, "tls offset shared", load(2), unsigned(12), 2),
    ("TLSLD_LDST16_DTPREL_LO12_NC", 534, "tls low shared", load(2), ALL, 2),
    ("TLSLD_LDST32_DTPREL_LO12", 535, "tls offset shared", load(4), unsigned(12), 4),
    ("TLSLD_LDST32_DTPREL_LO12_NC", 536, "tls low shared", load(4), ALL, 4),
    ("TLSLD_LDST64_DTPREL_LO12", 537, "tls offset shared", load(8), unsigned(12), 8),
    ("TLSLD_LDST64_DTPREL_LO12_NC", 538, "tls low shared", load(8), ALL, 8),
    ("TLSIE_MOVW_GOTTPREL_G1", 539, "tls group of slots shared", movw_signed(16), signed(33), 1),
    ("TLSIE_MOVW_GOTTPREL_G0_NC", 540, "tls group of slots shared", movk(0), ALL, 1),
    ("TLSIE_ADR_GOTTPREL_PAGE21", 541, "tls slot page shared", ADRP, signed(33), 0x1000),
    ("TLSIE_LD64_GOTTPREL_LO12_NC", 542, "tls slot low shared", load(8), ALL, 8),
    ("TLSIE_LD_GOTTPREL_PREL19", 543, "tls slot shared", LITERAL, signed(21), 4),
    ("TLSLE_MOVW_TPREL_G2", 544, "tls offset", movw_signed(32), signed(49), 1),
    ("TLSLE_MOVW_TPREL_G1", 545, "tls offset", movw_signed(16), signed(33), 1),
    ("TLSLE_MOVW_TPREL_G1_NC", 546, "tls offset", movk(16), ALL, 1),
    ("TLSLE_MOVW_TPREL_G0", 547, "tls offset", movw_signed(0), signed(17), 1),
    ("TLSLE_MOVW_TPREL_G0_NC", 548, "tls offset", movk(0), ALL, 1),
    ("TLSLE_ADD_TPREL_HI12", 549, "tls offset", bits(0x91400000, 10, 12, 12), unsigned(24), 1),
    ("TLSLE_ADD_TPREL_LO12", 550, "tls offset", ADD, unsigned(12), 1),
    ("TLSLE_ADD_TPREL_LO12_NC", 551, "tls low", ADD, ALL, 1),
    ("TLSLE_LDST8_TPREL_LO12", 552, "tls offset", load(1), unsigned(12), 1),
    ("TLSLE_LDST8_TPREL_LO12_NC", 553, "tls low", load(1), ALL, 1),
    ("TLSLE_LDST16_TPREL_LO12", 554, "tls offset", load(2), unsigned(12), 2),
    ("TLSLE_LDST16_TPREL_LO12_NC", 555, "tls low", load(2), ALL, 2),
    ("TLSLE_LDST32_TPREL_LO12", 556, "tls offset", load(4), unsigned(12), 4),
    ("TLSLE_LDST32_TPREL_LO12_NC", 557, "tls low", load(4), ALL, 4),
    ("TLSLE_LDST64_TPREL_LO12", 558, "tls offset", load(8), unsigned(12), 8),
    ("TLSLE_LDST64_TPREL_LO12_NC", 559, "tls low", load(8), ALL, 8),
    ("TLSDESC_LD_PREL19", 560, "tls slot shared", LITERAL, signed(21), 4),
    ("TLSDESC_ADR_PREL21", 561, "tls slot shared", ADR, signed(21), 1),
    ("TLSDESC_ADR_PAGE21", 562, "tls slot page shared", ADRP, signed(33), 0x1000),
    ("TLSDESC_LD64_LO12", 563, "tls slot low shared", load(8), ALL, 8),
    ("TLSDESC_ADD_LO12", 564, "tls slot low shared", ADD, ALL, 1),
    ("TLSDESC_OFF_G1", 565, "tls group of slots shared", movw_signed(16), signed(33), 1),
    ("TLSDESC_OFF_G0_NC", 566, "tls group of slots shared", movk(0), ALL, 1),
    ("TLSLE_LDST128_TPREL_LO12", 570, "tls offset", load(16), unsigned(12), 16),
    ("TLSLE_LDST128_TPREL_LO12_NC", 571, "tls low", load(16), ALL, 16),
    ("TLSLD_LDST128_DTPREL_LO12", 572, "tls offset shared", load(16), unsigned(12), 16),
    ("TLSLD_LDST128_DTPREL_LO12_NC", 573, "tls low shared", load(16), ALL, 16),
]


# --- Objects: one .text, one .tdata, symbols, relocations. ---

ABSOLUTE, TEXT, TDATA, UNDEFINED = 0xFFF1, 1, 2, 0
NOTYPE, OBJECT, TLS = 0, 1, 6


def write_object(path, arch, flags, text, symbols, relocations):
    """flags: 6 for code, 3 for data. symbols: (name, value, section, type, size), all global.
    relocations: (offset, number, symbol index from 0, addend)."""
    strings, table = b"\0", [struct.pack("<IBBHQQ", 0, 0, 0, 0, 0, 0)]
    for name, value, section, kind, size in symbols:
        table.append(struct.pack("<IBBHQQ", len(strings), 1 << 4 | kind, 0, section, value % 2**64, size))
        strings += name.encode() + b"\0"
    relas = [struct.pack("<QQq", at, (symbol + 1) << 32 | number, addend) for at, number, symbol, addend in relocations]
    names = b"\0.text\0.tdata\0.rela.text\0.symtab\0.strtab\0.shstrtab\0"
    rows = [  # name, type, flags, contents, link, info, align, entry size
        (".text", 1, flags, text, 0, 0, 16, 0),
        (".tdata", 1, 0x403, bytes(16), 0, 0, 16, 0),
        (".rela.text", 4, 0x40, b"".join(relas), 4, 1, 8, 24),
        (".symtab", 2, 0, b"".join(table), 5, 1, 8, 24),
        (".strtab", 3, 0, strings, 0, 0, 1, 0),
        (".shstrtab", 3, 0, names, 0, 0, 1, 0),
    ]
    body, headers = b"", [bytes(64)]
    for name, kind, flags, contents, link, info, align, entry in rows:
        body += bytes(-len(body) % 16)
        at = names.index(name.encode() + b"\0")
        headers.append(struct.pack("<IIQQQQIIQQ", at, kind, flags, 0, 64 + len(body), len(contents), link, info, align, entry))
        body += contents
    body += bytes(-len(body) % 16)
    machine = {"X86_64": 62, "AARCH64": 183}[arch]
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    count = len(headers)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 1, machine, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, count, count - 1)
    with open(path, "wb") as file:
        file.write(header + body + b"".join(headers))


def read_sections(path):
    """Name to (address, contents)."""
    with open(path, "rb") as file:
        image = file.read()
    start, = struct.unpack_from("<Q", image, 40)
    count, names = struct.unpack_from("<HH", image, 60)
    rows = [struct.unpack_from("<IIQQQQ", image, start + 64 * i) for i in range(count)]
    strings = rows[names][4]
    sections = {}
    for name, kind, _, address, offset, size in rows:
        end = image.index(b"\0", strings + name)
        contents = image[offset : offset + size] if kind != 8 else bytes(size)
        sections[image[strings + name : end].decode()] = address, contents
    return sections


DYNAMIC = [".dynsym", ".dynstr", ".hash", ".rela.dyn", ".rela.got", ".rela.plt", ".dynamic"]
REFUSED = "relocation truncated to fit|out of range|improper alignment"
UNKNOWN = "(unknown|unrecognized|unsupported) relocation"


class Unknown(Exception):
    pass


class Refused(Exception):
    pass


class Link:
    """One run of one linker."""

    def __init__(self, linker, arch, text, symbols, relocations, got=PLACE + 0x10000, shared=False, flags=6):
        with tempfile.TemporaryDirectory() as folder:
            path = lambda name: os.path.join(folder, name)
            write_object(path("a.o"), arch, flags, text, symbols, relocations)
            with open(path("script"), "w") as script:
                script.write(  # Each in a segment of its own, or the gaps between them would be in the file.
                    "PHDRS { text PT_LOAD; got PT_LOAD; tdata PT_LOAD; tls PT_TLS; rest PT_LOAD; }\n"
                    "SECTIONS {\n"
                    f".text {PLACE:#x} : {{ *(.text) }} :text\n"
                    f".got {got:#x} : {{ *(.got) *(.got.plt) }} :got\n"
                    f".tdata {PLACE + 0x20000:#x} : {{ *(.tdata) }} :tdata :tls\n"
                    f". = {PLACE + 0x30000:#x};\n"
                    + "".join(f"{name} : {{ *({name}) }} :rest\n" for name in DYNAMIC)
                    + "}\n"
                )
            emulation = {"X86_64": "elf_x86_64", "AARCH64": "aarch64linux"}[arch]
            command = [linker, "-m", emulation, "-o", path("out"), "-T", path("script"), "-e", "0", "--no-relax"]
            command += ["-z", "noexecstack", "-z", "norelro", "-z", "max-page-size=4096"]
            command += ["--no-check-sections", "--hash-style=sysv"]
            command += ["-shared"] if shared else ["-static"]
            result = subprocess.run(command + [path("a.o")], capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
            self.message = result.stderr
            if result.returncode:
                if re.search(REFUSED, self.message):
                    raise Refused
                if re.search(UNKNOWN, self.message):
                    raise Unknown
                raise SystemExit(f"{' '.join(command)}\n{self.message}")
            self.sections = read_sections(path("out"))

    def text(self, at, size):
        return self.sections[".text"][1][at : at + size]


class Row:
    """One relocation, asked of one linker."""

    def __init__(self, linker, arch, number, how, field):
        self.linker, self.arch, self.number, self.field = linker, arch, number, field
        self.shared, self.tls = "shared" in how, how.startswith("tls")
        self.how = how.removeprefix("tls ").removesuffix(" shared")
        self.size = len(field(0))

    def link(self, offset=0, value=0x1230, addend=0, got=PLACE + 0x10000):
        symbol = ("s", value, ABSOLUTE, NOTYPE, 0)
        if self.tls:
            symbol = ("s", 0, TDATA, TLS, 4)
        elif self.how == "size":
            symbol = ("s", 0x1230, ABSOLUTE, OBJECT, value)
        text = bytearray(64)
        text[offset : offset + self.size] = self.field(0)
        relocation = (offset, self.number, 0, addend)
        return Link(self.linker, self.arch, bytes(text), [symbol], [relocation], got, self.shared, 3 if self.field is QUAD else 6)

    def answer(self, x, offset=0, **how):
        """The answer to X, with the field at `offset` and the rest of the situation."""
        try:
            link = self.link(offset, **how)
        except Refused:
            return "no"
        except Unknown:
            return "-"
        return "yes" if link.text(offset, self.size) == self.field(x) else "other"

    def slot(self, got):
        """Where the only slot of a GOT at `got` is."""
        link = self.link(got=got)
        address, contents = link.sections[".got"]
        if not self.shared:
            return address + contents.index(struct.pack("<Q", 0x1230))
        tables = [table for name, (_, table) in link.sections.items() if name.startswith(".rela")]
        places = [struct.unpack_from("<Q", table, at)[0] for table in tables for at in range(0, len(table), 24)]
        return min(place for place in places if address <= place < address + len(contents))

    def probe(self):
        """X as it comes with addend 0."""
        if self.tls and self.arch == "AARCH64":
            return 0 if self.shared else 16  # The thread control block's size. If it were wrong, no answer would be `yes`.
        return int.from_bytes(self.link().text(0, self.size), "little", signed=True)

    def cases(self, first, last, step):
        """Yields place, target, X and answer for each case."""
        how = self.how
        whole, highest = (first, last) == ALL, last
        ends = [first, last, 0] if whole else [first - step, first, 0, last, last + step]
        if step > 1:
            last = last // step * step
            near = [0x1230 + step // 2] if whole else [first + step // 2, last - step // 2]
            ends = ([0x1230, last] if whole else [first - step, first, 0, last, last + step]) + near
        if how == "absolute" or how == "size":
            for x in sorted(ends):
                if how == "size" and x < 0:
                    yield 0, x, x, self.answer(x, addend=x, value=0)
                else:
                    yield 0, x, x, self.answer(x, value=x)
        elif how == "relative":
            for x in sorted(ends):
                yield PLACE, PLACE + x, x, self.answer(x, value=PLACE + x)
        elif how == "low":
            known = self.probe() if self.tls else 0
            for value in [0, 0x1FF0, 0x1FFF, 0x1230 + step // 2, 0x1230 + step, 0x7FFF_FFFF_FFFF_FFF0]:
                put = {"addend": wrapped(value - known)} if self.tls else {"value": value}
                yield 0, value, value & 0xFFF, self.answer(value & 0xFFF, **put)
        elif how == "page":
            yield from self.page_cases(first, highest, whole)
        elif how in ("got", "got offset", "from got", "offset"):
            known = self.probe()
            for x in sorted(ends):
                place = {"got": PLACE, "from got": 0x1230 - known}.get(how, 0)
                yield place, place + x, x, self.answer(x, addend=wrapped(x - known))
        elif how.startswith("slot"):
            yield from self.slot_cases(first, last, step)

    def page_cases(self, first, last, whole):
        for offset in (0, 0xFFC):
            targets = [(0, 0x1234), (0, 0x1FFF)]
            if whole:
                targets = [(1 << 33, 0), (-(1 << 33), 0xFFF), (0, 0)]
            else:
                targets += [(first - 0x1000, 0xFFF), (first, 0), (last // 0x1000 * 0x1000, 0xFFF), (last + 1, 0)]
            for x, low in targets:
                target = PLACE + x + low
                yield PLACE + offset, target, target // 0x1000 * 0x1000 - PLACE, self.paged(x + low, offset, target)

    def paged(self, distance, offset, target):
        x = distance // 0x1000 * 0x1000
        text = bytearray(0x1000)
        text[offset : offset + 4] = self.field(0)
        try:
            link = Link(self.linker, self.arch, bytes(text), [("s", target, ABSOLUTE, NOTYPE, 0)], [(offset, self.number, 0, 0)])
        except Refused:
            return "no"
        except Unknown:
            return "-"
        return "yes" if link.text(offset, 4) == self.field(x) else "other"

    def slot_cases(self, first, last, step):
        base = PLACE + 0x10000
        within = self.slot(base) - base
        if self.how == "slot":
            for x in sorted([first - step, first, 0x10000, last // step * step, last // step * step + step]):
                offset = -x % 8
                slot = PLACE + offset + x
                yield PLACE + offset, slot, x, self.answer(x, offset, got=slot - within)
        elif self.how == "slot low":
            for low in (0x000, 0x120, 0xFF8):
                slot = base + low
                if slot % 8 == 0:
                    yield PLACE, slot, low, self.answer(low, got=slot - within)
        elif self.how == "slot page":
            end = last // 0x1000 * 0x1000
            for x, low in [(first - 0x1000, 0xFF8), (first, 0), (0x10000, 0), (end, 0xFF8), (end + 0x1000, 0)]:
                slot = PLACE + x + low
                yield PLACE, slot, x, self.answer(x, got=slot - within)
        elif self.how == "slot of many":
            yield from self.many_slots(first, last)

    def many_slots(self, first, last):
        # A GOT with entries beyond 2^32 is too large to make.
        ends = (last // 8 * 8, last // 8 * 8 + 8) if last < 1 << 17 else (0x10008,)
        count = 4200 if last < 1 << 15 else 8400
        symbols = [(f"s{i}", 0x1_0000_0000 + 0x100 * i, ABSOLUTE, NOTYPE, 0) for i in range(count)]
        text = b"".join(adr(0x90000000, 12)(0) for _ in symbols) + self.field(0)
        others = [(4 * i, 311, i, 0) for i in range(count)]
        from_page = self.number == 313
        for low in (0, 0xFF8) if from_page else (0xFF8,):
            got = PLACE + 0x10000 + low
            _, contents = Link(self.linker, self.arch, text, symbols, others, got).sections[".got"]
            origin = got // 0x1000 * 0x1000 if from_page else got
            for x in (0x1000, *ends):
                value, = struct.unpack_from("<Q", contents, origin + x - got)
                symbol = (value - 0x1_0000_0000) // 0x100
                try:
                    link = Link(self.linker, self.arch, text, symbols, others + [(4 * count, self.number, symbol, 0)], got)
                    answer = "yes" if link.text(4 * count, 4) == self.field(x) else "other"
                except Refused:
                    answer = "no"
                except Unknown:
                    answer = "-"
                yield got, origin + x, x, answer


def ask(arch, row):
    """Each case of one relocation, with the answers of all linkers."""
    name, number, how, field, (first, last), step = row
    cases = {}
    for column, (_, program) in enumerate(LINKERS):
        linker = program if isinstance(program, str) else program[arch]
        asked = Row(linker, arch, number, how, field)
        try:
            answers = list(asked.cases(first, last, step))
        except Unknown:
            continue
        for place, target, x, answer in answers:
            key = place % 2**64, target % 2**64, x
            cases.setdefault(key, ["-"] * len(LINKERS))[column] = answer
    name = f"R_{arch}_{name}"
    if not cases:
        return [f"{name} 0x0 0x0 0x0 - - -"]
    ordered = sorted(cases.items(), key=lambda case: (case[0][2], case[0]))
    return [" ".join([name, *(f"{number:#x}" for number in key), *answers]) for key, answers in ordered]


def version(program):
    return subprocess.run([program, "--version"], capture_output=True, text=True).stdout.splitlines()[0]


def main():
    print("# Written by generate.py, which says what the words mean. Not to be edited.")
    for name, program in LINKERS:
        for one in [program] if isinstance(program, str) else program.values():
            print(f"# {name}: {one}, {version(one)}")
    print("# relocation place target X", *(name for name, _ in LINKERS))
    rows = [("X86_64", row) for row in X86_64] + [("AARCH64", row) for row in AARCH64]
    only = sys.argv[1:]
    rows = [row for row in rows if not only or row[1][0] in only]
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for lines in pool.map(lambda row: ask(*row), rows):
            print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
