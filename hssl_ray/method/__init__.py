"""The paper, in torch alone: groups, steerable convolutions, networks, views, objectives."""
