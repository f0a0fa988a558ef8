//! Pods that want no answers from the kernel: the annotation
//! `nodedns.io/datapath: "off"` of a Pod, or of its Namespace.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use crate::objects::{Event, Kind, Object, ObjectName, Pod, Switch};

/// Namespaces and Pods as far as that goes.
#[derive(Debug, Default)]
pub(super) struct OptOut {
    /// Namespace -> what its annotation says, for those that have one.
    namespaces: HashMap<String, Switch>,
    pods: HashMap<ObjectName, Entry>,
    has_listed_namespaces: bool,
    has_listed_pods: bool,
}

/// A Pod that has addresses of its own.
#[derive(Debug)]
struct Entry {
    ips: Vec<IpAddr>,
    switch: Option<Switch>,
}

impl OptOut {
    /// Takes note of what an event says about Namespaces and about the node's Pods.
    pub(super) fn note(&mut self, event: &Event) {
        match event {
            Event::Apply(object) => self.apply(object),
            Event::Delete(Kind::Namespace, name) => drop(self.namespaces.remove(&name.name)),
            Event::Delete(Kind::Pod, name) => drop(self.pods.remove(name)),
            Event::Listed(Kind::Namespace, objects) => {
                self.namespaces.clear();
                self.has_listed_namespaces = true;
                self.apply_all(objects);
            }
            Event::Listed(Kind::Pod, objects) => {
                // One that is being deleted may have lost its address, but be there.
                let is_there: BTreeSet<_> = objects.iter().map(Object::name).collect();
                self.pods.retain(|name, _| is_there.contains(name));
                self.apply_all(objects);
                self.has_listed_pods = true;
            }
            Event::Delete(..) | Event::Listed(..) => {}
        }
    }

    fn apply_all(&mut self, objects: &[Object]) {
        for object in objects {
            self.apply(object);
        }
    }

    fn apply(&mut self, object: &Object) {
        match object {
            Object::Namespace(namespace) => {
                match namespace.datapath {
                    Some(switch) => self.namespaces.insert(namespace.name.clone(), switch),
                    None => self.namespaces.remove(&namespace.name),
                };
            }
            Object::Pod(Pod { name, own_ips, datapath, is_terminating, .. }) => {
                if own_ips.is_empty() && *is_terminating && self.pods.contains_key(name) {
                    return;
                }
                let entry = Entry { ips: own_ips.clone(), switch: *datapath };
                self.pods.insert(name.clone(), entry);
            }
            _ => {}
        }
    }

    /// Returns the addresses of those that opted out; None until all are known.
    pub(super) fn clients(&self) -> Option<BTreeSet<IpAddr>> {
        let is_off = |(name, pod): &(&ObjectName, &Entry)| {
            let of_namespace = || self.namespaces.get(&name.namespace).copied();
            pod.switch.or_else(of_namespace) == Some(Switch::Off)
        };
        let off = self.pods.iter().filter(is_off);
        (self.has_listed_namespaces && self.has_listed_pods)
            .then(|| off.flat_map(|(_, pod)| &pod.ips).copied().collect())
    }

    /// Whether any Namespace opts out.
    pub(super) fn has_namespaces(&self) -> bool {
        self.namespaces.values().any(|switch| *switch == Switch::Off)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::builders::{mk_name, mk_namespace, mk_pod};

    fn namespace(name: &str, datapath: Option<Switch>) -> Object {
        let Object::Namespace(mut namespace) = mk_namespace(name) else { panic!("a Namespace") };
        namespace.datapath = datapath;
        Object::Namespace(namespace)
    }

    fn pod(name: &str, ip: &str, datapath: Option<Switch>) -> Object {
        let Object::Pod(mut pod) = mk_pod(name, ip) else { panic!("a Pod") };
        pod.datapath = datapath;
        Object::Pod(pod)
    }

    #[test]
    fn pods_opt_out_by_themselves_or_by_their_namespace() {
        let (on, off) = (Some(Switch::On), Some(Switch::Off));
        let mut opt_out = OptOut::default();
        let mut check = |step: &str, event: Event, expect: Option<&[&str]>| {
            opt_out.note(&event);
            let clients = opt_out.clients();
            let clients =
                clients.map(|ips| ips.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(
                clients.as_deref(),
                expect
                    .map(|ips| ips.iter().map(|ip| (*ip).to_owned()).collect::<Vec<_>>())
                    .as_deref(),
                "{step}"
            );
        };
        let namespaces = || vec![namespace("a", None), namespace("b", off)];
        check("no Pods yet", Event::Listed(Kind::Namespace, namespaces()), None);
        let pods = vec![
            pod("a/1", "10.0.0.1", None),
            pod("a/2", "10.0.0.2", off),
            pod("b/3", "fd00::3", None),
            pod("b/4", "10.0.0.4", on),
        ];
        check("listed", Event::Listed(Kind::Pod, pods.clone()), Some(&["10.0.0.2", "fd00::3"]));
        let moved = pod("a/2", "10.0.0.7", off);
        check("another address", Event::Apply(moved), Some(&["10.0.0.7", "fd00::3"]));
        let back = pod("a/2", "10.0.0.7", None);
        check("no annotation", Event::Apply(back), Some(&["fd00::3"]));
        let on_again = namespace("b", None);
        check("a Namespace without", Event::Apply(on_again), Some(&[]));
        let all_off = namespace("a", off);
        check("another one with", Event::Apply(all_off), Some(&["10.0.0.1", "10.0.0.7"]));
        let gone = Event::Delete(Kind::Pod, mk_name("a/1"));
        check("a Pod is gone", gone, Some(&["10.0.0.7"]));
        let gone = Event::Delete(Kind::Namespace, mk_name("a"));
        check("a Namespace is gone", gone, Some(&[]));
        check("listed anew", Event::Listed(Kind::Namespace, namespaces()), Some(&["fd00::3"]));
        check("no Pods", Event::Listed(Kind::Pod, Vec::new()), Some(&[]));
    }
}
