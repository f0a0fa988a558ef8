//! What the kernel holds because of some Services and Namespaces, before a change and
//! after it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::{
    answers,
    cluster::{Cluster, namespace_name, service_names, service_questions},
    index::Touched,
    message::TYPE_PTR,
    records::{Answer, AnswerKey, Change, NameRecords},
};

/// Names and answers of some Services and Namespaces.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Of each Namespace and each Service, its own name first.
    owners: Vec<Vec<NameRecords>>,
    /// Of each question in whose answer one of the Services has a part.
    answers: BTreeMap<AnswerKey, Option<Answer>>,
}

impl Part {
    /// Looks at what will be touched.
    pub(super) fn before(cluster: &Cluster, touched: &Touched) -> Self {
        Self::of(cluster, touched, BTreeSet::new())
    }

    /// Adds the least changes that lead from this to what was touched since. Returns
    /// how many names there were, and are now.
    pub(super) fn lead_to_now(
        self,
        cluster: &Cluster,
        touched: &Touched,
        changes: &mut Vec<Change>,
    ) -> [usize; 2] {
        let new = Self::of(cluster, touched, self.answers.keys().cloned().collect());
        let counts = [&self, &new].map(|part| part.owners.iter().map(Vec::len).sum());
        for (old, new) in self.owners.iter().zip(new.owners) {
            replace_names(old, new, changes);
        }
        for (key, answer) in new.answers {
            let is_same = match self.answers.get(&key) {
                Some(before) => *before == answer,
                // Other Services may have an address, too, and with it a part in this.
                None => answer.is_none() && key.qtype != TYPE_PTR,
            };
            if !is_same {
                changes.push(answer.map_or(Change::RemoveAnswer(key), Change::PutAnswer));
            }
        }
        counts
    }

    /// Looks at what is touched, and at more questions. Nothing while the kernel
    /// answers for no zone.
    fn of(cluster: &Cluster, touched: &Touched, mut keys: BTreeSet<AnswerKey>) -> Self {
        let Some((index, settings)) = cluster.of_kernel() else { return Self::default() };
        let mut owners = Vec::new();
        for namespace in &touched.namespaces {
            owners.push(namespace_name(index, settings, namespace).into_iter().collect());
        }
        for service in &touched.services {
            owners.push(service_names(index, settings, service));
            keys.extend(service_questions(index, settings, service));
        }
        let answer = |key| {
            let answer = answers::render(index, settings, &key);
            (key, answer)
        };
        Self { owners, answers: keys.into_iter().map(answer).collect() }
    }
}

/// Adds what makes the names of one owner others. Names come before the one that they
/// are below, which may say that these are all.
fn replace_names(old: &[NameRecords], new: Vec<NameRecords>, changes: &mut Vec<Change>) {
    let before: HashMap<_, _> = old.iter().map(|records| (&records.name, records)).collect();
    let kept: HashSet<_> = new.iter().map(|records| records.name.clone()).collect();
    let is_new = |records: &NameRecords| before.get(&records.name) != Some(&records);
    changes.extend(new.into_iter().rev().filter(is_new).map(Change::Put));
    let gone = old.iter().filter(|records| !kept.contains(&records.name));
    changes.extend(gone.map(|records| Change::Remove(records.name.clone())));
}
