//! A histogram that takes many equal observations at once: what the kernel has
//! counted since the last scrape.

use std::{
    fmt,
    iter::once,
    sync::{Mutex, PoisonError},
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric},
};

/// Observations by upper bound.
#[derive(Debug)]
pub(super) struct Histogram(Mutex<Observed>);

#[derive(Debug)]
struct Observed {
    sum: f64,
    /// Upper bounds, rising to infinity, each with what is above the one before.
    buckets: Vec<(f64, u64)>,
}

impl Histogram {
    /// Returns one without observations; `bounds` rise.
    pub(super) fn new(bounds: impl IntoIterator<Item = f64>) -> Self {
        let bounds = bounds.into_iter().chain(once(f64::INFINITY));
        let buckets = bounds.map(|bound| (bound, 0)).collect();
        Self(Mutex::new(Observed { sum: 0.0, buckets }))
    }

    /// Adds an observation.
    pub(super) fn observe(&self, value: f64) {
        let mut observed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        observed.sum += value;
        if let Some((_, count)) = observed.buckets.iter_mut().find(|(bound, _)| value <= *bound) {
            *count += 1;
        }
    }

    /// Adds so many observations that are next to nothing.
    pub(super) fn observe_zeros(&self, more: u64) {
        let mut observed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, count)) = observed.buckets.first_mut() {
            *count += more;
        }
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let observed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = observed.buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(observed.sum, count, &observed.buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text, registry::Registry};

    use super::*;

    #[test]
    fn observations_are_added_up() {
        let histogram = Histogram::new([0.5, 1.0]);
        for value in [0.5, 0.75, 0.75, 8.0] {
            histogram.observe(value);
        }
        histogram.observe_zeros(5_000_000_000);
        let mut registry = Registry::default();
        registry.register("took", "Time", histogram);
        let mut encoded = String::new();
        text::encode(&mut encoded, &registry).unwrap();
        let expected = "# HELP took Time.\n\
                        # TYPE took histogram\n\
                        took_sum 10.0\n\
                        took_count 5000000004\n\
                        took_bucket{le=\"0.5\"} 5000000001\n\
                        took_bucket{le=\"1.0\"} 5000000003\n\
                        took_bucket{le=\"+Inf\"} 5000000004\n\
                        # EOF\n";
        assert_eq!(encoded, expected);
    }
}
