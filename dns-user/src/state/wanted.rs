//! All that the kernel is to hold, made of the objects.

use crate::{
    answers,
    cluster::{
        Cluster, fixed_names, fixed_questions, is_question, namespace_name, service_names,
        service_questions,
    },
    corefile::ClusterSettings,
    index::Index,
    objects::{Kind, ObjectName},
    records::{Answer, AnswerKey, ClusterZone, NameRecords, Wanted},
};

impl Wanted for Cluster {
    fn zone(&self) -> Option<&ClusterZone> {
        self.kernel_zone.as_ref()
    }

    fn names(&self) -> impl Iterator<Item = NameRecords> {
        self.of_kernel().into_iter().flat_map(|(index, settings)| {
            let namespaces = index.names(Kind::Namespace).into_iter();
            let namespaces = namespaces.filter_map(|it| namespace_name(index, settings, &it.name));
            let services = index.names(Kind::Service).into_iter();
            let services = services
                .flat_map(|service| service_names(index, settings, &service).into_iter().rev());
            fixed_names(settings).into_iter().chain(namespaces).chain(services)
        })
    }

    fn answers(&self) -> impl Iterator<Item = Answer> {
        self.of_kernel().into_iter().flat_map(|(index, settings)| {
            let of_services = index
                .service_names()
                .flat_map(|service| service_questions(index, settings, &service));
            let all = fixed_questions(settings).into_iter().chain(of_services);
            all.filter_map(|key| answers::render(index, settings, &key))
        })
    }

    fn name(&self, name: &str) -> Option<NameRecords> {
        let (index, settings) = self.of_kernel()?;
        names_near(index, settings, name)?.into_iter().find(|records| records.name == name)
    }

    fn answer(&self, key: &AnswerKey) -> Option<Answer> {
        let (index, settings) = self.of_kernel()?;
        is_question(index, settings, key).then(|| answers::render(index, settings, key)).flatten()
    }
}

/// Returns the names that one in the zone can be among.
fn names_near(index: &Index, settings: &ClusterSettings, name: &str) -> Option<Vec<NameRecords>> {
    let labels: Vec<_> = name.strip_suffix(&settings.zone)?.split('.').collect();
    Some(match *labels {
        [namespace, "svc", ""] => namespace_name(index, settings, namespace).into_iter().collect(),
        [service, namespace, "svc", ""] | [_, service, namespace, "svc", ""] => {
            let (namespace, name) = (namespace.to_owned(), service.to_owned());
            service_names(index, settings, &ObjectName { namespace, name })
        }
        _ => fixed_names(settings),
    })
}
