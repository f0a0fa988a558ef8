//! The formats in which metrics are read: `OpenMetrics` 1.0.0, and Prometheus' older
//! text format 0.0.4 for whoever does not ask for the former.

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// <https://prometheus.io/docs/specs/om/open_metrics_spec/>.
    OpenMetrics,
    /// <https://prometheus.io/docs/instrumenting/exposition_formats/>.
    Text,
}

impl Exposition {
    /// Returns the format that a client wants that sends this `Accept` (RFC 9110
    /// 12.5.1); text when it likes both the same, or says nothing.
    pub fn accepted(accept: Option<&str>) -> Self {
        let ranges = accept.unwrap_or_default().split(',');
        let preference = |media_type: &str| {
            let is_meant =
                |range: &&str| range.split(';').next().map(str::trim) == Some(media_type);
            let of_type = ranges.clone().filter(is_meant).map(quality);
            of_type.fold(0.0, f64::max)
        };
        if preference("application/openmetrics-text") > preference("text/plain") {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    /// Returns its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Returns `open_metrics`, which is in `OpenMetrics`, in this format.
    pub(super) fn convert(self, open_metrics: String) -> String {
        match self {
            Self::OpenMetrics => open_metrics,
            Self::Text => text(&open_metrics),
        }
    }
}

/// Returns the `q` of a media range.
fn quality(range: &str) -> f64 {
    let q = range.split(';').find_map(|parameter| parameter.trim().strip_prefix("q="));
    q.map_or(1.0, |q| q.parse().unwrap_or(0.0))
}

/// A counter is called by the name of its sample here, which ends in `_total`.
fn text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    // HELP comes before TYPE.
    let mut help = None;
    let mut write = |parts: &[&str]| {
        text.extend(parts.iter().copied());
        text.push('\n');
    };
    for line in open_metrics.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ').map(|(_, help)| help);
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').unwrap_or((typed, "untyped"));
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some(help) = help.take() {
                write(&["# HELP ", name, suffix, " ", help]);
            }
            write(&["# TYPE ", name, suffix, " ", kind]);
        } else if !line.starts_with('#') {
            write(&[line]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_decides_the_format() {
        let prometheus = "application/openmetrics-text;version=1.0.0,\
                          application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, expect) in [
            (None, Exposition::Text),
            (Some("*/*"), Exposition::Text),
            (Some("text/plain"), Exposition::Text),
            (Some(prometheus), Exposition::OpenMetrics),
            (Some("application/openmetrics-text"), Exposition::OpenMetrics),
            (Some("application/openmetrics-text; q=0"), Exposition::Text),
            (Some("text/plain;q=0.6, application/openmetrics-text;q=0.5"), Exposition::Text),
            (Some("application/openmetrics-text;q=?"), Exposition::Text),
        ] {
            assert_eq!(Exposition::accepted(accept), expect, "{accept:?}");
        }
    }

    #[test]
    fn text_names_counters_as_their_samples() {
        let open_metrics = "# HELP a_b Queries.\n\
                            # TYPE a_b counter\n\
                            a_b_total{x=\"# \"} 1\n\
                            # HELP size_bytes Size.\n\
                            # TYPE size_bytes gauge\n\
                            # UNIT size_bytes bytes\n\
                            size_bytes 2\n\
                            # EOF\n";
        let expect = "# HELP a_b_total Queries.\n\
                      # TYPE a_b_total counter\n\
                      a_b_total{x=\"# \"} 1\n\
                      # HELP size_bytes Size.\n\
                      # TYPE size_bytes gauge\n\
                      size_bytes 2\n";
        assert_eq!(Exposition::Text.convert(open_metrics.to_owned()), expect);
        assert_eq!(Exposition::OpenMetrics.convert(open_metrics.to_owned()), open_metrics);
    }
}
