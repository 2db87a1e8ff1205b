//! Who may take how much of a common pool: everyone has a reserve that nobody else can take, and what is left beyond the
//! reserves goes to whoever comes first, up to a limit. So one who takes all that it gets starves nobody. What everyone had when the
//! system came up does not count: how much that is depends on its manifest, and it keeps it.

/// Users at the most.
pub const USERS: usize = 10;
/// Pieces that every user finds when it needs them: as tables, for up to 2 MiB at any place.
pub const RESERVE: u16 = 3;
/// Pieces that one user may have.
pub const LIMIT: u16 = 48;

/// How many pieces each user has. All zero bits: nobody is there.
#[derive(Clone, Copy, Debug)]
pub struct Shares {
    used: [u16; USERS],
    present: [bool; USERS],
}

impl Shares {
    /// Nobody is there.
    #[must_use]
    pub const fn new() -> Self {
        Self { used: [0; USERS], present: [false; USERS] }
    }

    /// Takes a piece for `user`, of `free` that the pool has; its first makes it a user, whose reserve counts from then on.
    /// Whether it may.
    pub fn take(&mut self, user: usize, free: u16) -> bool {
        let Some(own) = self.used.get(user).copied() else { return false };
        let owed: u16 = (0..USERS).filter(|other| *other != user && self.present[*other]).map(|other| RESERVE.saturating_sub(self.used[other])).sum();
        let may = if own < RESERVE { free > 0 } else { own < LIMIT && free > owed };
        if may {
            self.present[user] = true;
            self.used[user] = own + 1;
        }
        may
    }

    /// The system is up: from here on it is counted who takes what.
    pub fn settle(&mut self) {
        self.used = [0; USERS];
    }

    /// Gives a piece of `user`'s back.
    pub fn give_back(&mut self, user: usize) {
        if let Some(used) = self.used.get_mut(user) {
            *used = used.saturating_sub(1);
        }
    }
}

impl Default for Shares {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(shares: &mut Shares, user: usize, free: &mut u16) -> u16 {
        let mut taken = 0;
        while shares.take(user, *free) {
            *free -= 1;
            taken += 1;
        }
        taken
    }

    #[test]
    fn a_greedy_user_leaves_every_other_one_its_reserve() {
        let mut shares = Shares::new();
        let mut free = 40;
        for user in 0..4 {
            assert!(shares.take(user, free));
            free -= 1;
        }
        assert_eq!(take_all(&mut shares, 0, &mut free), 40 - 4 - 3 * (RESERVE - 1));
        for user in 1..4 {
            assert_eq!(take_all(&mut shares, user, &mut free), RESERVE - 1, "user {user}");
        }
        assert_eq!(free, 0);
    }

    #[test]
    fn who_began_with_much_has_its_reserve_too() {
        let mut shares = Shares::new();
        let mut free = 50;
        for _ in 0..20 {
            assert!(shares.take(0, free) && shares.take(1, free - 1));
            free -= 2;
        }
        shares.settle();
        assert_eq!(take_all(&mut shares, 1, &mut free), 10 - RESERVE);
        assert_eq!(take_all(&mut shares, 0, &mut free), RESERVE);
        assert_eq!(free, 0);
    }

    #[test]
    fn nobody_gets_more_than_the_limit() {
        let mut shares = Shares::new();
        assert_eq!(take_all(&mut shares, 3, &mut 200), LIMIT);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let mut shares = Shares::new();
        let mut free = 20;
        take_all(&mut shares, 1, &mut free);
        assert_eq!(free, 0);
        shares.give_back(1);
        assert!(shares.take(2, 1));
        assert!(!shares.take(1, 0));
    }

    #[test]
    fn who_is_no_user_gets_nothing() {
        assert!(!Shares::new().take(USERS, 100));
    }
}
