//! Two whole frames, every octet.

use crate::packet::describe::describe_frame;

/// Octets shown in a line of the dump.
const ROW: usize = 16;

/// Panics with a layered difference unless the frames are equal in every octet.
#[track_caller]
pub fn assert_same_frame(case: &str, expected: &[u8], actual: &[u8]) {
    if let Some(difference) = frame_difference(expected, actual) {
        panic!("{case}: another frame than expected\n{difference}");
    }
}

/// Describes how two frames differ, layer by layer and then octet by octet;
/// None when they are equal. Lines of the expected frame begin with `-`, those
/// of the actual one with `+`.
pub fn frame_difference(expected: &[u8], actual: &[u8]) -> Option<String> {
    if expected == actual {
        return None;
    }
    let (wanted, found) = (describe_frame(expected), describe_frame(actual));
    let (wanted, found) = (wanted.lines().collect::<Vec<_>>(), found.lines().collect::<Vec<_>>());
    let mut text = String::new();
    for line in 0..wanted.len().max(found.len()) {
        let pair = (wanted.get(line), found.get(line));
        if let (Some(same), true) = (pair.0, pair.0 == pair.1) {
            add(&mut text, ' ', same);
            continue;
        }
        if let Some(line) = pair.0 {
            add(&mut text, '-', line);
        }
        if let Some(line) = pair.1 {
            add(&mut text, '+', line);
        }
    }
    for start in (0..expected.len().max(actual.len())).step_by(ROW) {
        let (wanted, found) = (row(expected, start), row(actual, start));
        if wanted != found {
            add(&mut text, '-', &dump(start, wanted));
            add(&mut text, '+', &dump(start, found));
        }
    }
    Some(text)
}

fn add(text: &mut String, mark: char, line: &str) {
    text.push(mark);
    text.push(' ');
    text.push_str(line);
    text.push('\n');
}

fn row(octets: &[u8], start: usize) -> &[u8] {
    let end = octets.len().min(start + ROW);
    octets.get(start..end).unwrap_or_default()
}

fn dump(start: usize, octets: &[u8]) -> String {
    let octets = octets.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>();
    format!("{start:4}: {}", octets.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{
        frame::Frame,
        query::{Query, qtype},
    };

    #[test]
    fn equal_frames_do_not_differ() {
        let frame = Frame::with_query(&Query::new("a.b", qtype::A)).octets();
        assert_eq!(frame_difference(&frame, &frame), None);
    }

    #[test]
    fn a_difference_shows_in_its_layer_and_in_its_octets() {
        let frame = Frame::with_query(&Query::new("a.b", qtype::A));
        let other = Frame { ttl: 63, ..frame.clone() };
        let text = frame_difference(&frame.octets(), &other.octets()).unwrap();
        assert!(text.contains("- ipv4 10.244.0.1 > 169.254.25.10"), "{text}");
        assert!(text.contains("ttl 63"), "{text}");
        assert!(text.contains("  udp 40000 > 53"), "{text}");
        assert!(text.contains("-   16:"), "{text}");
    }

    #[test]
    fn a_longer_frame_differs() {
        let frame = Frame::with_query(&Query::new("a.b", qtype::A));
        let other = Frame { padding: vec![0], ..frame.clone() };
        assert!(frame_difference(&frame.octets(), &other.octets()).is_some());
    }
}
