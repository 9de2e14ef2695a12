use sqlx::error::BoxDynError;
use sqlx::{Database, Execute, SqlStr};

/// The parts of a query, taken out so that its text can be read before it runs.
pub(super) struct Statement<DB: Database> {
    sql: SqlStr,
    prepared: Option<DB::Statement>,
    arguments: Option<DB::Arguments>,
    persistent: bool,
}

impl<DB: Database> Statement<DB> {
    /// Fails where a value could not be encoded, as the driver would.
    pub(super) fn take<'q, E: Execute<'q, DB>>(mut query: E) -> Result<Self, sqlx::Error> {
        let arguments = query.take_arguments().map_err(sqlx::Error::Encode)?;
        let prepared = query.statement().cloned();
        let persistent = query.persistent();
        Ok(Self { sql: query.sql(), prepared, arguments, persistent })
    }

    pub(super) fn text(&self) -> &str {
        self.sql.as_str()
    }
}

impl<'q, DB: Database> Execute<'q, DB> for Statement<DB> {
    fn sql(self) -> SqlStr {
        self.sql
    }

    fn statement(&self) -> Option<&DB::Statement> {
        self.prepared.as_ref()
    }

    fn take_arguments(&mut self) -> Result<Option<DB::Arguments>, BoxDynError> {
        Ok(self.arguments.take())
    }

    fn persistent(&self) -> bool {
        self.persistent
    }
}
