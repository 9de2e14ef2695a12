//! Our families and foreign ones in one exposition.

use std::collections::HashSet;

use crate::model::Family;

/// All names that `families` take, as families or samples.
pub(crate) fn claimed_names(families: &[Family]) -> HashSet<String> {
    families.iter().flat_map(Family::claims).collect()
}

/// Appends foreign families to `families`, except those that would write a name again. `reserved`
/// are names of ours whether they are written now or not. Returns the names that were left out.
pub(crate) fn compose(
    families: &mut Vec<Family>,
    foreign: Vec<Family>,
    reserved: &HashSet<String>,
) -> Vec<String> {
    let mut taken = claimed_names(families);
    let mut left_out = Vec::new();
    for family in foreign {
        let claims = family.claims();
        if claims.iter().any(|name| taken.contains(name) || reserved.contains(name)) {
            left_out.push(family.name.into_owned());
        } else {
            taken.extend(claims);
            families.push(family);
        }
    }
    left_out
}

/// Appends those of `more` whose names nobody has taken.
pub(crate) fn add_missing(families: &mut Vec<Family>, more: Vec<Family>) {
    let taken = claimed_names(families);
    families.extend(more.into_iter().filter(|f| f.claims().iter().all(|n| !taken.contains(n))));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FamilyKind;

    fn family(name: &'static str, kind: FamilyKind) -> Family {
        Family { name: name.into(), help: "help".into(), kind, points: Vec::new() }
    }

    #[test]
    fn a_foreign_family_never_writes_a_name_that_is_taken() {
        let mut families = vec![family("a_total", FamilyKind::Counter)];
        let foreign = vec![
            family("a_total", FamilyKind::Counter),
            family("a", FamilyKind::Gauge),
            family("b", FamilyKind::Histogram),
            family("b_count", FamilyKind::Gauge),
            family("c", FamilyKind::Counter),
            family("c_total", FamilyKind::Counter),
            family("ours", FamilyKind::Gauge),
        ];
        let reserved = HashSet::from(["ours".to_owned()]);
        let left_out = compose(&mut families, foreign, &reserved);
        assert_eq!(left_out, ["a_total", "a", "b_count", "c_total", "ours"]);
        let names: Vec<_> = families.iter().map(|family| family.name.as_ref()).collect();
        assert_eq!(names, ["a_total", "b", "c"]);
    }
}
