//! REMARKS: sentences that stay beside the answers they are about, so that
//! `nodedns status` shows them whether or not an agent runs.

use anyhow::{Context as _, Result};
use aya::maps::{Array, Map, MapData};
use dns_ebpf::layout::{
    REMARKS_MAX,
    remark::{REMARK_OCTETS, Remark},
};

/// REMARKS.
pub struct Remarks(Array<MapData, Remark>);

impl Remarks {
    /// Takes REMARKS.
    pub fn new(map: MapData) -> Result<Self> {
        Ok(Self(Map::Array(map).try_into().context("REMARKS is not the map it should be")?))
    }

    /// Sets all remarks, as many as there are places for.
    pub fn set(&mut self, remarks: &[String]) -> Result<()> {
        let texts = remarks.iter().map(String::as_str).chain(std::iter::repeat(""));
        for (index, text) in (0..REMARKS_MAX).zip(texts) {
            self.0.set(index, encode(text), 0).context("cannot write REMARKS")?;
        }
        Ok(())
    }

    /// Returns all remarks.
    pub fn all(&self) -> Result<Vec<String>> {
        let remarks: Vec<Remark> =
            self.0.iter().collect::<Result<_, _>>().context("cannot read REMARKS")?;
        Ok(remarks.iter().map(decode).filter(|text| !text.is_empty()).collect())
    }
}

/// Returns `text` on one line, cut off at the end of a character where it is longer.
fn encode(text: &str) -> Remark {
    let mut remark = Remark { text: [0; REMARK_OCTETS] };
    let length = text.floor_char_boundary(REMARK_OCTETS - 1);
    let kept = text.get(..length).unwrap_or_default();
    let kept = kept.replace(|c: char| c.is_control(), " ");
    for (place, octet) in remark.text.iter_mut().zip(kept.bytes()) {
        *place = octet.cast_signed();
    }
    remark
}

fn decode(remark: &Remark) -> String {
    let octets = remark.text.iter().map(|octet| octet.cast_unsigned());
    let octets: Vec<u8> = octets.take_while(|octet| *octet != 0).collect();
    String::from_utf8_lossy(&octets).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_up_to_their_length_and_on_one_line() {
        let long = "\u{e4}".repeat(REMARK_OCTETS);
        let cut = "\u{e4}".repeat(REMARK_OCTETS / 2 - 1);
        for (text, expect) in [("", ""), ("a\nb\tc\0d", "a b c d"), (&long, &cut)] {
            assert_eq!(decode(&encode(text)), expect);
        }
    }
}
