//! What the change of an object may change of answers.

use std::collections::BTreeSet;

use super::{Contents, Index, Step};
use crate::objects::{Kind, Object, ObjectName, Unusable};

/// What an event may have changed. Nothing, when the objects stay the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Services, existing or not, whose records may be others now.
    pub services: BTreeSet<ObjectName>,
    /// Namespaces that came, went or changed.
    pub namespaces: BTreeSet<String>,
    /// Whether a Service, an EndpointSlice or a Pod came, went or changed, and not
    /// only a Namespace: such changes raise the SOA serial.
    pub is_data: bool,
    /// Whether CoreDNS's ConfigMap came, went or changed.
    pub corefile: bool,
}

impl Touched {
    /// Takes in what else was touched.
    pub fn extend(&mut self, other: Self) {
        self.services.extend(other.services);
        self.namespaces.extend(other.namespaces);
        self.is_data |= other.is_data;
        self.corefile |= other.corefile;
    }

    /// Notes a Service that changes, itself or by its slices.
    fn touch(&mut self, service: ObjectName) {
        self.is_data = true;
        self.services.insert(service);
    }
}

impl Index {
    /// Returns what changes when this step is taken, so that others can look at what
    /// was before. Of several steps the whole of what each says: an object that is
    /// there only because of an earlier one was named by that.
    pub fn touches(&self, step: &Step) -> Touched {
        let mut touched = Touched::default();
        match step {
            Step::Delete(kind, name) => {
                if let Some(mark) = self.unusables.get(*kind, name) {
                    self.touch_unusable(&mark, &mut touched);
                }
                self.touch_existing(*kind, name, &mut touched);
            }
            Step::Apply(Object::Unusable(mark)) => {
                self.touch_existing(mark.kind, &mark.name, &mut touched);
                let old = self.unusables.get(mark.kind, &mark.name);
                if old.as_ref() != Some(mark) {
                    self.touch_unusable(mark, &mut touched);
                    if let Some(old) = old {
                        self.touch_unusable(&old, &mut touched);
                    }
                }
            }
            Step::Apply(object) => {
                if self.unusables.has_any()
                    && let Some(mark) = self.unusables.get(object.kind(), &object.name())
                {
                    self.touch_unusable(&mark, &mut touched);
                }
                self.touch_new(object, &mut touched);
            }
        }
        touched
    }

    /// Touches what a well-formed object may change, unless it is there already.
    fn touch_new(&self, object: &Object, touched: &mut Touched) {
        match object {
            Object::Namespace(namespace) => {
                let contents = self.namespaces.get(namespace.name.as_str());
                let labels = contents.and_then(|contents| contents.labels.as_ref());
                if labels != Some(&namespace.labels) {
                    self.touch_namespace(&namespace.name, touched);
                }
            }
            Object::Service(service) => {
                if self.service(&service.name) != Some(service) {
                    touched.touch(service.name.clone());
                }
            }
            Object::EndpointSlice(slice) => {
                let old = self.stored_slice(&slice.name);
                if old != Some(slice) {
                    touched.touch(slice.service_name());
                    if let Some(old) = old {
                        touched.touch(old.service_name());
                    }
                }
            }
            Object::ConfigMap(map) => touched.corefile |= self.config_map.as_ref() != Some(map),
            Object::Pod(pod) => touched.is_data |= self.pods.is_changed_by(pod),
            Object::Unusable(_) => {}
        }
    }

    /// Touches what depends on a well-formed object, if it is there.
    fn touch_existing(&self, kind: Kind, name: &ObjectName, touched: &mut Touched) {
        match kind {
            Kind::Namespace if self.has_namespace(&name.name) => {
                self.touch_namespace(&name.name, touched);
            }
            Kind::Service if self.service(name).is_some() => touched.touch(name.clone()),
            Kind::EndpointSlice => {
                if let Some(slice) = self.stored_slice(name) {
                    touched.touch(slice.service_name());
                }
            }
            Kind::ConfigMap => {
                touched.corefile |= self.config_map.as_ref().is_some_and(|map| map.name == *name);
            }
            Kind::Pod => touched.is_data |= self.pods.has(name),
            Kind::Namespace | Kind::Service => {}
        }
    }

    /// Touches what a mark, come or gone, may change.
    fn touch_unusable(&self, mark: &Unusable, touched: &mut Touched) {
        let ObjectName { namespace, name } = &mark.name;
        let named = |name: &str| ObjectName { namespace: namespace.clone(), name: name.to_owned() };
        match (mark.kind, &mark.service) {
            (Kind::Service, _) if !name.is_empty() => touched.touch(mark.name.clone()),
            (Kind::EndpointSlice, Some(service)) => touched.touch(named(service)),
            (Kind::Service | Kind::EndpointSlice, _) => {
                touched.is_data = true;
                self.touch_namespace(namespace, touched);
            }
            (Kind::Namespace, _) => self.touch_namespace(name, touched),
            (Kind::ConfigMap, _) => touched.corefile = true,
            (Kind::Pod, _) => touched.is_data = true,
        }
    }

    /// Touches a Namespace with all that is in it; every one when its name is
    /// empty, which stands for one that is not known.
    fn touch_namespace(&self, name: &str, touched: &mut Touched) {
        if name.is_empty() {
            self.namespaces.iter().for_each(|(name, contents)| contents.touch_all(name, touched));
        } else {
            touched.namespaces.insert(name.to_owned());
            if let Some(contents) = self.namespaces.get(name) {
                contents.touch_all(name, touched);
            }
        }
        let malformed = self.unusables.names(Kind::Service);
        let malformed = malformed.filter(|it| name.is_empty() || it.namespace == name);
        touched.services.extend(malformed.cloned());
    }
}

impl Contents {
    fn touch_all(&self, namespace: &str, touched: &mut Touched) {
        touched.namespaces.insert(namespace.to_owned());
        touched.services.extend(
            self.services
                .keys()
                .map(|name| ObjectName { namespace: namespace.to_owned(), name: name.to_string() }),
        );
    }
}
