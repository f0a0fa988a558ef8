//! Loaded programs that one test after the other uses: to load them, with the type
//! information of the whole kernel, takes longer than what most tests do with them.

use std::{
    collections::BTreeSet,
    ops::{Deref, DerefMut},
    sync::{Mutex, PoisonError},
    thread,
};

use dns_ebpf::layout::programs;
use dns_user::{
    datapath::load::{LoadOptions, Loaded, load},
    store::AnswerStore as _,
};

use crate::known::LOCAL_IPS;

/// Those that nobody uses, by the program that they were loaded for.
static IDLE: Mutex<Vec<(&str, Loaded)>> = Mutex::new(Vec::new());

/// The object with one of the programs that answer, and maps of its own that are not
/// pinned. The maps are empty at first, but for the zone and for what was counted.
pub struct Pooled {
    program: &'static str,
    /// None only while it is dropped, or when it must not be used again.
    loaded: Option<Loaded>,
}

impl Pooled {
    /// Takes one that was used before, or loads one.
    pub fn take(program: &'static str) -> Self {
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        let place = idle.iter().position(|(name, _)| *name == program);
        let used = place.map(|place| idle.swap_remove(place).1);
        drop(idle);
        let loaded = used.map_or_else(|| fresh(program), emptied);
        Self { program, loaded: Some(loaded) }
    }
}

fn fresh(program: &str) -> Loaded {
    let options = LoadOptions::new(None, &LOCAL_IPS);
    let loaded = load(&options).expect("the programs load");
    if program == programs::XDP {
        return loaded.with_program(program).expect("the program loads");
    }
    loaded
}

fn emptied(mut loaded: Loaded) -> Loaded {
    loaded.answers.retain(&|_| false).expect("NAMES can be emptied");
    loaded.answers.retain_answers(&|_| false).expect("ANSWERS can be emptied");
    loaded.cache.clear().expect("CACHE can be emptied");
    let Loaded { opted_out, addresses, .. } = &mut loaded;
    opted_out.set(&BTreeSet::new(), addresses).expect("OPTED_OUT can be emptied");
    loaded
}

impl Deref for Pooled {
    type Target = Loaded;

    fn deref(&self) -> &Loaded {
        self.loaded.as_ref().expect("it is there until it is dropped")
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Loaded {
        self.loaded.as_mut().expect("it is there until it is dropped")
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        // Whoever panics may have left anything in it.
        if let Some(loaded) = self.loaded.take().filter(|_| !thread::panicking()) {
            let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push((self.program, loaded));
        }
    }
}
