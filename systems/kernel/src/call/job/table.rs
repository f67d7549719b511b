//! The table of jobs and pools, and what is wrong with it.

use std::collections::BTreeMap;

use bevy_ecs::prelude::*;

use super::{DEFAULT_POOL, MakeWorker, Pool};
use crate::fault::{Fault, FaultKind};
use crate::spelling::{is_dotted_name, nearest};

/// The jobs and pools that were registered.
#[derive(Resource, Clone)]
pub struct Jobs {
    rows: BTreeMap<String, (String, MakeWorker)>,
    pools: BTreeMap<String, Pool>,
    /// What is wrong with them, as sentences; a server is not built while there is any.
    errors: Vec<String>,
}

impl Default for Jobs {
    fn default() -> Self {
        let pools = BTreeMap::from([(DEFAULT_POOL.to_owned(), Pool::new(DEFAULT_POOL))]);
        Jobs { rows: BTreeMap::new(), pools, errors: Vec::new() }
    }
}

impl Jobs {
    /// The pools, by name.
    pub fn pools(&self) -> impl Iterator<Item = &Pool> + '_ {
        self.pools.values()
    }

    /// The pool of a job and what makes its workers.
    ///
    /// # Errors
    /// `unimplemented`, with the nearest name: nobody registered the job.
    pub fn get(&self, name: &str) -> Result<(&str, &MakeWorker), Fault> {
        let row = self.rows.get(name).ok_or_else(|| {
            let near = nearest(name, self.rows.keys().cloned());
            let sentence =
                format!("no job `{name}` is registered on this server: add it with `app.job(…)`{near}");
            Fault::new(FaultKind::Unimplemented, sentence)
        })?;
        Ok((&row.0, &row.1))
    }

    pub(crate) fn add_pool(&mut self, pool: Pool) {
        self.errors.extend(pool.wrong());
        if self.pools.contains_key(&pool.name) {
            let whose = if pool.name == DEFAULT_POOL {
                "every server has it; give yours another name"
            } else {
                "registered twice; a name belongs to one plugin"
            };
            self.errors.push(format!("pool `{}`: {whose}", pool.name));
        }
        self.pools.insert(pool.name.clone(), pool);
    }

    pub(crate) fn add(&mut self, name: &str, pool: &str, make: MakeWorker) {
        if !is_dotted_name(name) {
            self.errors
                .push(format!("job `{name}`: a name is lower-case letters, digits, dots and underscores"));
        }
        if self.rows.insert(name.to_owned(), (pool.to_owned(), make)).is_some() {
            self.errors.push(format!("job `{name}`: registered twice; a name belongs to one plugin"));
        }
    }

    /// Everything that is wrong, once all plugins are built.
    pub(crate) fn wrong(&self) -> Vec<String> {
        let lost = self.rows.iter().filter(|(_, (pool, _))| !self.pools.contains_key(pool));
        let lost = lost.map(|(name, (pool, _))| {
            let near = nearest(pool, self.pools.keys().cloned());
            format!("job `{name}`: there is no pool `{pool}`: add it with `app.pool(…)`{near}")
        });
        self.errors.iter().cloned().chain(lost).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::KaosApp;
    use crate::call::job::{Job, JobContext};
    use crate::prelude::App;
    use crate::server::{Build, Server};

    /// A part of a sentence, and the plugin that it is said of.
    type Case = (&'static str, fn(&mut App));

    /// A job of any name and pool.
    macro_rules! job {
        ($job:ident, $name:literal, $pool:expr) => {
            #[derive(serde::Serialize, serde::Deserialize)]
            struct $job;

            impl Job for $job {
                type Out = ();
                const NAME: &'static str = $name;
                const POOL: &'static str = $pool;
            }
        };
    }

    job!(Read, "store.read", "store");
    job!(Plain, "store.plain", DEFAULT_POOL);
    job!(Again, "store.read", "store");
    job!(Shouted, "Store read", "store");

    fn does<J: Job<Out = ()>>(_: J, _: &mut JobContext<'_>) -> Result<(), Fault> {
        Ok(())
    }

    /// What a server that is built with a plugin says of it.
    fn wrong(plugin: impl Fn(&mut App)) -> String {
        Server::build(Build::default(), plugin).err().map(|error| error.to_string()).unwrap_or_default()
    }

    fn wrong_pool(pool: Pool) -> String {
        wrong(|app| {
            app.pool(pool.clone());
        })
    }

    #[test]
    fn jobs_find_their_pools_and_a_pool_has_its_defaults() {
        let server = Server::build(Build::default(), |app| {
            app.job(does::<Read>).job(does::<Plain>).pool(Pool::new("store").threads(1));
        });
        let jobs = server.expect("it fits").jobs();
        assert_eq!(jobs.get("store.read").map(|(pool, _)| pool), Ok("store"));
        assert_eq!(jobs.get("store.plain").map(|(pool, _)| pool), Ok("jobs"));
        let pools: Vec<_> =
            jobs.pools().map(|p| (p.name.as_str(), p.threads, p.running_max(), p.queue)).collect();
        assert_eq!(pools, [("jobs", 2, 2, 1024), ("store", 1, 1, 1024)]);
    }

    #[test]
    fn names_that_clash_or_lead_nowhere_are_sentences_at_the_start() {
        let cases: [Case; 5] = [
            (
                "job `store.read`: there is no pool `store`: add it with `app.pool(…)`. Did you mean `stor`?",
                |app| {
                    app.job(does::<Read>).pool(Pool::new("stor"));
                },
            ),
            ("job `store.read`: registered twice", |app| {
                app.pool(Pool::new("store")).job(does::<Read>).job(does::<Again>);
            }),
            ("pool `store`: registered twice", |app| {
                app.pool(Pool::new("store")).pool(Pool::new("store").threads(1));
            }),
            ("pool `jobs`: every server has it", |app| {
                app.pool(Pool::new(DEFAULT_POOL).threads(8));
            }),
            ("job `Store read`: a name is lower-case", |app| {
                app.pool(Pool::new("store")).job(does::<Shouted>);
            }),
        ];
        for (sentence, plugin) in cases {
            let wrong = wrong(plugin);
            assert!(wrong.contains(sentence), "{sentence}: {wrong:?}");
        }
    }

    #[test]
    fn what_a_pool_cannot_be_is_a_sentence_at_the_start() {
        let good = || Pool::new("store");
        for pool in [
            good().threads(1),
            good().threads(256).running(256).queue(1),
            good().threads(32).running(1).queue(65_536),
            Pool::new("a".repeat(32)),
        ] {
            assert_eq!(wrong_pool(pool.clone()), "", "{pool:?}");
        }
        for (sentence, pool) in [
            ("1 to 256 threads, not 0", good().threads(0)),
            ("1 to 256 threads, not 257", good().threads(257)),
            ("of 2 threads 1 to 2 may run, not 0", good().running(0)),
            ("of 2 threads 1 to 2 may run, not 3", good().running(3)),
            ("a queue holds 1 to 65536 jobs, not 0", good().queue(0)),
            ("a queue holds 1 to 65536 jobs, not 65537", good().queue(65_537)),
            ("1 to 32 lower-case letters", Pool::new("")),
            ("1 to 32 lower-case letters", Pool::new("a".repeat(33))),
            ("1 to 32 lower-case letters", Pool::new("a\0b")),
        ] {
            let wrong = wrong_pool(pool.clone());
            assert!(wrong.contains(sentence), "{pool:?}: {wrong:?}");
        }
    }
}
