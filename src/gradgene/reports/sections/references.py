"""The works that a methods text cites, by how it names them."""

from __future__ import annotations

__all__ = ["REFERENCES", "of_data", "of_method"]

#: (Author year) → reference, as the text says it.
REFERENCES = {
    "Adebayo et al. 2018": "Adebayo J, Gilmer J, Muelly M, Goodfellow I, Hardt M, Kim B. Sanity "
    "checks for saliency maps. Advances in Neural Information Processing Systems 31 (2018). "
    "arXiv:1810.03292",
    "Benjamini and Hochberg 1995": "Benjamini Y, Hochberg Y. Controlling the false discovery rate: "
    "a practical and powerful approach to multiple testing. Journal of the Royal Statistical "
    "Society B 57, 289–300 (1995). doi:10.1111/j.2517-6161.1995.tb02031.x",
    "Edin et al. 2025": "Edin J et al. GIM: Improved interpretability for large language models "
    "(2025). arXiv:2505.17630",
    "Erion et al. 2021": "Erion G, Janizek JD, Sturmfels P, Lundberg SM, Lee S-I. Improving "
    "performance of deep learning models with axiomatic attribution priors and expected gradients. "
    "Nature Machine Intelligence 3, 620–631 (2021). doi:10.1038/s42256-021-00343-w",
    "Falcon et al. 2019": "Falcon W, the PyTorch Lightning team. PyTorch Lightning (2019). "
    "doi:10.5281/zenodo.3828935",
    "Janizek et al. 2021": "Janizek JD, Sturmfels P, Lee S-I. Explaining explanations: axiomatic "
    "feature interactions for deep networks. Journal of Machine Learning Research 22, 1–54 (2021). "
    "arXiv:2002.04138",
    "Kang et al. 2018": "Kang HM et al. Multiplexed droplet single-cell RNA-sequencing using "
    "natural genetic variation. Nature Biotechnology 36, 89–94 (2018). doi:10.1038/nbt.4042",
    "Khodaee et al. 2025": "Khodaee F, Zandie R, Thadawasin P, Edelman E. Gradient-based gene "
    "selection for multimodal scRNA-seq foundation models. ICLR workshop Machine Learning for "
    "Genomics Explorations (2025). openreview.net/forum?id=1MPTY6JaQc",
    "Kokhlikyan et al. 2020": "Kokhlikyan N et al. Captum: a unified and generic model "
    "interpretability library for PyTorch (2020). arXiv:2009.07896",
    "Kolde et al. 2012": "Kolde R, Laur S, Adler P, Vilo J. Robust rank aggregation for gene list "
    "integration and meta-analysis. Bioinformatics 28, 573–580 (2012). "
    "doi:10.1093/bioinformatics/btr709",
    "Nehar-Belaid et al. 2020": "Nehar-Belaid D et al. Mapping systemic lupus erythematosus "
    "heterogeneity at the single-cell level. Nature Immunology 21, 1094–1106 (2020). "
    "doi:10.1038/s41590-020-0743-0",
    "Otwinowski et al. 2018": "Otwinowski J, McCandlish DM, Plotkin JB. Inferring the shape of "
    "global epistasis. Proceedings of the National Academy of Sciences 115, E7550–E7558 (2018). "
    "doi:10.1073/pnas.1804015115",
    "Paszke et al. 2019": "Paszke A et al. PyTorch: an imperative style, high-performance deep "
    "learning library. Advances in Neural Information Processing Systems 32 (2019). "
    "arXiv:1912.01703",
    "Shrikumar et al. 2016": "Shrikumar A, Greenside P, Shcherbina A, Kundaje A. Not just a black "
    "box: learning important features through propagating activation differences (2016). "
    "arXiv:1605.01713",
    "Shrikumar et al. 2017": "Shrikumar A, Greenside P, Kundaje A. Learning important features "
    "through propagating activation differences. Proceedings of the 34th International Conference "
    "on Machine Learning, PMLR 70, 3145–3153 (2017). arXiv:1704.02685",
    "Sundararajan et al. 2017": "Sundararajan M, Taly A, Yan Q. Axiomatic attribution for deep "
    "networks. Proceedings of the 34th International Conference on Machine Learning, PMLR 70, "
    "3319–3328 (2017). arXiv:1703.01365",
    "Theodoris et al. 2023": "Theodoris CV et al. Transfer learning enables predictions in network "
    "biology. Nature 618, 616–624 (2023). doi:10.1038/s41586-023-06139-9",
    "Virshup et al. 2024": "Virshup I, Rybakov S, Theis FJ, Angerer P, Wolf FA. anndata: access "
    "and store annotated data matrices. Journal of Open Source Software 9, 4371 (2024). "
    "doi:10.21105/joss.04371",
    "Westfall and Young 1993": "Westfall PH, Young SS. Resampling-based multiple testing: examples "
    "and methods for p-value adjustment. Wiley (1993). ISBN 0-471-55761-7",
    "Wolf et al. 2018": "Wolf FA, Angerer P, Theis FJ. SCANPY: large-scale single-cell gene "
    "expression data analysis. Genome Biology 19, 15 (2018). doi:10.1186/s13059-017-1382-0",
    "Yadan 2019": "Yadan O. Hydra: a framework for elegantly configuring complex applications "
    "(2019). github.com/facebookresearch/hydra",
    "Zeiler and Fergus 2014": "Zeiler MD, Fergus R. Visualizing and understanding convolutional "
    "networks. European Conference on Computer Vision 2014, 818–833 (2014). "
    "doi:10.1007/978-3-319-10590-1_53",
    "Zheng et al. 2017": "Zheng GXY et al. Massively parallel digital transcriptional profiling of "
    "single cells. Nature Communications 8, 14049 (2017). doi:10.1038/ncomms14049",
}

#: Attribution method → what it is, with whom to cite.
_METHODS = {
    "deeplift": "DeepLIFT's rescale rule (Shrikumar et al. 2017), carried to the products, layer "
    "normalisation and softmax of a transformer so that scores add up",
    "integrated_gradients": "integrated gradients (Sundararajan et al. 2017)",
    "gradient_shap": "expected gradients (Erion et al. 2021)",
    "grad_x_delta": "the gradient times the difference of the two cells' embeddings, which "
    "Captum's DeepLIFT computes of a transformer (Kokhlikyan et al. 2020)",
    "input_x_gradient": "input times gradient (Shrikumar et al. 2016)",
    "gim": "gradient interaction modifications (Edin et al. 2025)",
    "swap_occlusion": "occlusion (Zeiler and Fergus 2014) by the other cell's state of each gene",
    "remove_occlusion": "in-silico deletion of each gene (Theodoris et al. 2023)",
    "random": "random scores, a control",
    "captum_deeplift": "Captum's DeepLIFT (Shrikumar et al. 2017, Kokhlikyan et al. 2020)",
    "captum_integrated_gradients": "Captum's integrated gradients (Sundararajan et al. 2017, "
    "Kokhlikyan et al. 2020)",
}

#: How the name of a file begins -> whose data it is; of the shipped experiments.
_DATA = {
    "bundled:pbmc68k": "Zheng et al. 2017",
    "csle_pbmc": "Nehar-Belaid et al. 2020",
    "kang2018": "Kang et al. 2018",
}


def of_data(path: object) -> str:
    """The citation of a data set or published table in brackets; empty where none is known."""
    name = str(path).rpartition("/")[2]
    whose = [cited for begins, cited in _DATA.items() if name.startswith(begins)]
    return f" ({whose[0]})" if whose else ""


def of_method(name: str) -> str:
    """An attribution method in words, with its citation; its own name where none is known."""
    return _METHODS.get(name, name)
