"""Graph contrastive learning with mixed negatives: graphs, their views, hardness, mixing and training."""
