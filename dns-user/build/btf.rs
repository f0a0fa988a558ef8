//! One correction of the object's BTF (kernel documentation, `bpf/btf.rst`).

/// Bit of a BTF integer's encoding that says it is a character.
const BTF_INT_CHAR: u8 = 2;

/// Little-endian fields of an ELF file, by offset.
struct Elf<'a>(&'a [u8]);

impl Elf<'_> {
    fn number(&self, at: usize, octets: usize) -> Option<usize> {
        let field = self.0.get(at..at.checked_add(octets)?)?;
        Some(field.iter().rev().fold(0, |value, octet| value << 8 | usize::from(*octet)))
    }

    fn text(&self, at: usize) -> Option<&[u8]> {
        self.0.get(at..)?.split(|octet| *octet == 0).next()
    }

    /// Where the contents of the section with that name begin.
    fn section(&self, name: &[u8]) -> Option<usize> {
        let header = |index| Some(self.number(0x28, 8)? + index * self.number(0x3a, 2)?);
        let names = self.number(header(self.number(0x3e, 2)?)? + 0x18, 8)?;
        let found = (0..self.number(0x3c, 2)?)
            .filter_map(header)
            .find(|at| self.number(*at, 4).and_then(|n| self.text(names + n)) == Some(name))?;
        self.number(found + 0x18, 8)
    }

    /// Where the encoding octet of the integer type with that name stands.
    fn integer_encoding(&self, wanted: &[u8]) -> Option<usize> {
        let btf = self.section(b".BTF")?;
        let body = btf + self.number(btf + 4, 4)?;
        let types = body + self.number(btf + 8, 4)?;
        let end = types + self.number(btf + 12, 4)?;
        let strings = body + self.number(btf + 16, 4)?;
        let mut at = types;
        while at < end {
            let info = self.number(at + 4, 4)?;
            let (kind, members) = (info >> 24 & 0x1f, info & 0xffff);
            if kind == 1 && self.text(strings + self.number(at, 4)?)? == wanted {
                return Some(at + 15);
            }
            // Octets behind the common 12: BTF_KIND_INT, VAR, DECL_TAG; ARRAY;
            // STRUCT, UNION, DATASEC, ENUM64; ENUM, FUNC_PROTO.
            at += 12
                + match kind {
                    1 | 14 | 17 => 4,
                    3 => 12,
                    4 | 5 | 15 | 19 => members * 12,
                    6 | 13 => members * 8,
                    _ => 0,
                };
        }
        None
    }
}

/// Gives the BTF integer `i8` the encoding CHAR, so that `bpftool map dump`
/// shows an array of it as a string. None when there is no such integer.
pub(super) fn mark_text(elf: &mut [u8]) -> Option<()> {
    let at = Elf(elf).integer_encoding(b"i8")?;
    *elf.get_mut(at)? = BTF_INT_CHAR;
    Some(())
}
