"""Graph contrastive learning with mixed hard negatives (the extra ``graph``)."""
