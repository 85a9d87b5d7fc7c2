//! The catalogue: who is enrolled, what was decided and said. SQLite now; the statements are plain SQL.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, RwLock};

use anyhow::Context;
use kilter_fleet::{Planner, Registry, enrol};
use kilter_ingest::Principal;
use kilter_ingest::listener::{Authorise, Refusal};
use kilter_types::{DeviceId, Micros, Name};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::Notify;

/// The database, and the devices in memory for the listener's door.
#[derive(Clone)]
pub(crate) struct Catalogue {
    pool: SqlitePool,
    devices: Arc<RwLock<HashMap<DeviceId, (Name, String)>>>,
    /// Somebody was turned away: perhaps he was enrolled meanwhile.
    turned_away: Arc<Notify>,
}

impl Catalogue {
    /// Opens the database; makes it on the first call.
    pub(crate) async fn open(path: &Path) -> anyhow::Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let pool = SqlitePoolOptions::new()
            .max_connections(2)
            .connect_with(options)
            .await
            .with_context(|| format!("failed to open the catalogue {}", path.display()))?;
        for statement in SCHEMA {
            sqlx::query(*statement).execute(&pool).await.context("failed to prepare the catalogue")?;
        }
        let catalogue = Self { pool, devices: Arc::default(), turned_away: Arc::default() };
        catalogue.reload().await?;
        Ok(catalogue)
    }

    /// Reads the devices again, so that one enrolled by another process is let in.
    pub(crate) async fn reload(&self) -> anyhow::Result<()> {
        let rows = sqlx::query("SELECT device, tenant, credential_hash FROM devices WHERE revoked_us IS NULL")
            .fetch_all(&self.pool)
            .await
            .context("failed to read the devices")?;
        let mut devices = HashMap::new();
        for row in rows {
            let device = DeviceId::new(&row.get::<String, _>(0)).context("failed to read a device's id")?;
            let tenant = Name::new(&row.get::<String, _>(1)).context("failed to read a tenant")?;
            devices.insert(device, (tenant, row.get(2)));
        }
        *self.devices.write().unwrap_or_else(std::sync::PoisonError::into_inner) = devices;
        Ok(())
    }

    /// Ready when somebody was turned away since the last call.
    pub(crate) async fn turned_away(&self) {
        self.turned_away.notified().await;
    }

    /// Is it enrolled, and for this tenant?
    pub(crate) fn has(&self, principal: &Principal) -> bool {
        let devices = self.devices.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = devices.get(&principal.device).is_some_and(|(tenant, _)| *tenant == principal.tenant);
        if !known {
            self.turned_away.notify_one();
        }
        known
    }

    /// Enrols a device, or gives it a new credential; returns the credential, which is kept nowhere.
    ///
    /// A device's id is its alone, whoever the tenant: journal and lake know it by nothing else. So another tenant's is refused,
    /// for ever: its rows may still be in the lake.
    pub(crate) async fn enrol(&self, tenant: &Name, device: &DeviceId, now: Micros) -> anyhow::Result<String> {
        let owner = sqlx::query("SELECT tenant FROM devices WHERE device = ?1")
            .bind(device.as_str())
            .fetch_optional(&self.pool)
            .await
            .with_context(|| format!("failed to look {device} up"))?;
        if let Some(owner) = owner.map(|row| row.get::<String, _>(0)).filter(|owner| owner != tenant.as_str()) {
            anyhow::bail!("failed to enrol {device}: it is a device of tenant {owner}; choose another id");
        }
        let credential = enrol::credential(crate::keys::random()?);
        sqlx::query(
            "INSERT INTO devices (device, tenant, credential_hash, enrolled_us) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (device) DO UPDATE SET credential_hash = ?3, enrolled_us = ?4, revoked_us = NULL",
        )
        .bind(device.as_str())
        .bind(tenant.as_str())
        .bind(enrol::hash(&credential))
        .bind(now.0)
        .execute(&self.pool)
        .await
        .with_context(|| format!("failed to enrol {device}"))?;
        self.reload().await?;
        Ok(credential)
    }

    /// Every enrolled device.
    pub(crate) fn devices(&self) -> Vec<DeviceId> {
        let mut all: Vec<_> =
            self.devices.read().unwrap_or_else(std::sync::PoisonError::into_inner).keys().cloned().collect();
        all.sort();
        all
    }

    /// The registry and the planner as they were last saved.
    pub(crate) async fn load_fleet(&self) -> anyhow::Result<(Registry, Planner)> {
        let registry = self.document("registry").await?;
        let planner = self.document("planner").await?;
        Ok((registry.unwrap_or_default(), planner.unwrap_or_default()))
    }

    /// Saves registry and planner in one transaction.
    pub(crate) async fn save_fleet(&self, registry: &Registry, planner: &Planner) -> anyhow::Result<()> {
        let mut transaction = self.pool.begin().await.context("failed to begin saving the fleet")?;
        let documents = [("registry", serde_json::to_string(registry)?), ("planner", serde_json::to_string(planner)?)];
        for (name, json) in documents {
            sqlx::query(
                "INSERT INTO documents (name, json) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET json = ?2",
            )
            .bind(name)
            .bind(json)
            .execute(&mut *transaction)
            .await
            .context("failed to save the fleet")?;
        }
        transaction.commit().await.context("failed to save the fleet")
    }

    /// Who acknowledged which alarm, and when; the first first.
    pub(crate) async fn acknowledged(&self) -> anyhow::Result<Vec<(String, String, Micros)>> {
        let newest = "SELECT detail, who, at_us FROM audit WHERE what = 'acknowledge' ORDER BY at_us DESC LIMIT ?1";
        let rows = sqlx::query(newest).bind(MOST_ACKNOWLEDGED).fetch_all(&self.pool).await;
        let rows = rows.context("failed to read the audit log")?;
        Ok(rows.iter().rev().map(|row| (row.get(0), row.get(1), Micros(row.get(2)))).collect())
    }

    /// Writes down who did what.
    pub(crate) async fn audit(&self, who: &str, what: &str, detail: &str, now: Micros) -> anyhow::Result<()> {
        sqlx::query("INSERT INTO audit (at_us, who, what, detail) VALUES (?1, ?2, ?3, ?4)")
            .bind(now.0)
            .bind(who)
            .bind(what)
            .bind(detail)
            .execute(&self.pool)
            .await
            .context("failed to write the audit log")?;
        Ok(())
    }

    /// Makes an API token for a person; it is shown once.
    pub(crate) async fn make_token(&self, who: &str, now: Micros) -> anyhow::Result<String> {
        let token = enrol::credential(crate::keys::random()?);
        sqlx::query("INSERT INTO tokens (hash, who, made_us) VALUES (?1, ?2, ?3)")
            .bind(enrol::hash(&token))
            .bind(who)
            .bind(now.0)
            .execute(&self.pool)
            .await
            .context("failed to save the token")?;
        Ok(token)
    }

    /// Whose token is this?
    pub(crate) async fn who(&self, token: &str) -> anyhow::Result<Option<String>> {
        let row = sqlx::query("SELECT who FROM tokens WHERE hash = ?1")
            .bind(enrol::hash(token))
            .fetch_optional(&self.pool)
            .await
            .context("failed to look a token up")?;
        Ok(row.map(|row| row.get(0)))
    }

    async fn document<T: serde::de::DeserializeOwned>(&self, name: &str) -> anyhow::Result<Option<T>> {
        let row = sqlx::query("SELECT json FROM documents WHERE name = ?1")
            .bind(name)
            .fetch_optional(&self.pool)
            .await
            .with_context(|| format!("failed to read {name} from the catalogue"))?;
        let Some(row) = row else {
            return Ok(None);
        };
        let json: String = row.get(0);
        serde_json::from_str(&json).map(Some).with_context(|| format!("failed to read {name} from the catalogue"))
    }
}

impl Authorise for Catalogue {
    fn connect(&self, client_id: &str, username: Option<&str>, password: Option<&[u8]>) -> Result<Principal, Refusal> {
        let device = username.and_then(|name| DeviceId::new(name).ok()).ok_or(Refusal::BadCredential)?;
        let credential = password.and_then(|p| std::str::from_utf8(p).ok()).ok_or(Refusal::BadCredential)?;
        let devices = self.devices.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = devices.get(&device).filter(|(_, stored)| enrol::verify(credential, stored));
        let Some((tenant, _)) = known else {
            self.turned_away.notify_one();
            return Err(Refusal::BadCredential);
        };
        if client_id != device.as_str() {
            return Err(Refusal::ClientId);
        }
        Ok(Principal { tenant: tenant.clone(), device })
    }
}

/// More alarms than the page keeps.
const MOST_ACKNOWLEDGED: i64 = 10_000;

const SCHEMA: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS devices (
        device TEXT PRIMARY KEY, tenant TEXT NOT NULL, credential_hash TEXT NOT NULL,
        enrolled_us INTEGER NOT NULL, revoked_us INTEGER)",
    "CREATE TABLE IF NOT EXISTS tokens (hash TEXT PRIMARY KEY, who TEXT NOT NULL, made_us INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS documents (name TEXT PRIMARY KEY, json TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS audit (
        at_us INTEGER NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL, detail TEXT NOT NULL)",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_enrolled_device_gets_in_and_its_secret_is_kept_nowhere() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("catalogue.sqlite");
        let catalogue = Catalogue::open(&path).await.expect("made at first start");
        let device = DeviceId::new("edge-1").expect("a good name");
        let tenant = Name::new("default").expect("a good name");
        let secret = catalogue.enrol(&tenant, &device, Micros(1)).await.expect("enrolled");
        let principal = catalogue.connect("edge-1", Some("edge-1"), Some(secret.as_bytes()));
        assert_eq!(principal, Ok(Principal { tenant, device }));
        assert_eq!(catalogue.connect("edge-1", Some("edge-1"), Some(b"guess")), Err(Refusal::BadCredential));
        assert_eq!(catalogue.connect("edge-1", Some("edge-2"), Some(secret.as_bytes())), Err(Refusal::BadCredential));
        let other = Name::new("other").expect("a good name");
        let error = catalogue.enrol(&other, &DeviceId::new("edge-1").expect("a good name"), Micros(2)).await;
        assert!(error.expect_err("another tenant's").to_string().contains("tenant default"));
        let stranger = Principal { tenant: other, device: DeviceId::new("edge-1").expect("a good name") };
        assert!(!catalogue.has(&stranger), "a topic of another tenant is not this device's");
        for file in std::fs::read_dir(dir.path()).expect("a folder") {
            let bytes = std::fs::read(file.expect("an entry").path()).expect("readable");
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
        }
    }
}
