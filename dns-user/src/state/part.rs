//! What the kernel holds because of some Services and Namespaces, before a change and
//! after it.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::addressed::Addressed;
use crate::{
    cluster::{Cluster, address_question, namespace_name, own_questions, service_names},
    index::Touched,
    records::{AnswerKey, Change, NameRecords},
};

/// What some Services and Namespaces have a part in.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Names of each Namespace and each Service, its own one first.
    owners: Vec<Vec<NameRecords>>,
    /// Questions for names of the Services.
    questions: BTreeSet<AnswerKey>,
    /// What each Service says of addresses.
    addressed: Vec<Addressed>,
}

impl Part {
    /// Looks at what is touched. Nothing while the kernel answers for no zone.
    pub(super) fn of(cluster: &Cluster, touched: &Touched) -> Self {
        let Some((index, settings)) = cluster.of_kernel() else { return Self::default() };
        let mut part = Self::default();
        for namespace in &touched.namespaces {
            part.owners.push(namespace_name(index, settings, namespace).into_iter().collect());
        }
        for service in &touched.services {
            part.owners.push(service_names(index, settings, service));
            part.questions.extend(own_questions(index, settings, service));
            part.addressed.push(Addressed::of(index, settings, service));
        }
        part
    }

    /// Adds the changes that lead from this to what was touched since, the least of names,
    /// which come first. Returns how many names there were, and are now.
    pub(super) fn lead_to_now(
        mut self,
        cluster: &Cluster,
        touched: &Touched,
        changes: &mut Vec<Change>,
    ) -> [usize; 2] {
        let new = Self::of(cluster, touched);
        let counts = [&self, &new].map(|part| part.owners.iter().map(Vec::len).sum());
        for (old, new) in self.owners.iter().zip(new.owners) {
            replace_names(old, new, changes);
        }
        // Other Services may have a part in these, too, so that what was before says
        // little: whoever holds them compares.
        self.questions.extend(new.questions);
        for (old, new) in self.addressed.iter().zip(&new.addressed) {
            self.questions.extend(old.changed(new).into_iter().map(address_question));
        }
        changes.extend(self.questions.into_iter().map(Change::Answer));
        counts
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
