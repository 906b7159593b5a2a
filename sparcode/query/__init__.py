"""The online path: a query becomes rows of posting lists, they are added, the best few rescored; never torch."""
